//! What is sent to an upstream: one message, or a stream of them that is pulled out of the request's body as the
//! upstream takes it. A request that goes wrong in between resets the call; it is never half-closed as if it were whole.

use super::{Endpoint, lines::Lines, problems};
use crate::edge::{BodyError, Code, Problem};
use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::Full;
use hyper::body::Incoming;
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;
use transcode::{HttpBody, Matched};

/// Lines that are there already share a frame, up to this size.
const WRITE: usize = 16 << 10;
/// Raw content goes in messages of at most this size.
const PIECE: usize = 64 << 10;

/// A body of one message.
pub(super) fn single(message: &[u8]) -> tonic::body::Body {
    let mut frame = Vec::with_capacity(message.len() + 5);
    append(message, &mut frame);
    tonic::body::Body::new(Full::new(Bytes::from(frame)))
}

/// Appends a length-prefixed message.
pub(super) fn append(message: &[u8], out: &mut Vec<u8>) {
    out.push(0);
    // Messages are bounded by the configuration, far below 4 GiB.
    out.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(message);
}

/// The call's end of a request that is still being sent. Dropping it stops the sending.
pub(super) struct Uplink {
    problem: oneshot::Receiver<Problem>,
    pub(super) progress: Arc<Progress>,
}

impl Uplink {
    /// Ready once the request has ended: well, or with what was wrong with it.
    pub(super) fn poll_problem(&mut self, cx: &mut Context<'_>) -> Poll<Option<Problem>> {
        Pin::new(&mut self.problem).poll(cx).map(Result::ok)
    }
}

/// Whether a request moves, for whoever measures its silence.
#[derive(Default)]
pub(super) struct Progress(AtomicU8);

const MOVED: u8 = 1;
const ENDED: u8 = 2;

impl Progress {
    /// Whether anything came since the last look.
    pub(super) fn moved(&self) -> bool {
        self.0.fetch_and(!MOVED, Relaxed) & MOVED != 0
    }

    /// Whether all of it came.
    pub(super) fn ended(&self) -> bool {
        self.0.load(Relaxed) & ENDED != 0
    }
}

/// A stream of messages made from a request's body.
pub(super) struct Upload {
    endpoint: Arc<Endpoint>,
    matched: Arc<Matched>,
    incoming: Incoming,
    /// Of the request's URI: it goes into the first message.
    query: Option<String>,
    kind: Kind,
    begun: bool,
    ended: bool,
    /// None once the problem has been told.
    problem: Option<oneshot::Sender<Problem>>,
    progress: Arc<Progress>,
}

enum Kind {
    Lines(Lines),
    Raw { content_type: String, rest: Bytes },
}

impl Upload {
    /// A message from each line.
    pub(super) fn lines(
        endpoint: &Arc<Endpoint>,
        matched: &Arc<Matched>,
        query: Option<&str>,
        incoming: Incoming,
    ) -> (tonic::body::Body, Uplink) {
        let limit = usize::try_from(endpoint.limits.body_bytes).unwrap_or(usize::MAX);
        let lines = Lines::new(limit);
        Self::start(endpoint, matched, query, incoming, Kind::Lines(lines))
    }

    /// Messages that hold the body as it is, piece by piece.
    pub(super) fn raw(
        endpoint: &Arc<Endpoint>,
        matched: &Arc<Matched>,
        query: Option<&str>,
        content_type: String,
        incoming: Incoming,
    ) -> (tonic::body::Body, Uplink) {
        let kind = Kind::Raw { content_type, rest: Bytes::new() };
        Self::start(endpoint, matched, query, incoming, kind)
    }

    fn start(
        endpoint: &Arc<Endpoint>,
        matched: &Arc<Matched>,
        query: Option<&str>,
        incoming: Incoming,
        kind: Kind,
    ) -> (tonic::body::Body, Uplink) {
        let (problem, told) = oneshot::channel();
        let progress = Arc::<Progress>::default();
        let upload = Self {
            endpoint: Arc::clone(endpoint),
            matched: Arc::clone(matched),
            incoming,
            query: query.map(str::to_owned),
            kind,
            begun: false,
            ended: false,
            problem: Some(problem),
            progress: Arc::clone(&progress),
        };
        (tonic::body::Body::new(upload), Uplink { problem: told, progress })
    }

    /// Makes messages of what has come.
    fn take(&mut self, out: &mut Vec<u8>) -> Result<(), Problem> {
        let query = self.query.as_deref();
        match &mut self.kind {
            Kind::Lines(lines) => {
                while out.len() < WRITE
                    && let Some((number, line)) = lines.next(self.ended)?
                {
                    let encoded = match std::mem::replace(&mut self.begun, true) {
                        false => self.matched.encode_request(query, &line),
                        true => self.matched.encode_next(&line),
                    };
                    let encoded = encoded.map_err(|e| problems::from_line(&self.endpoint, number, &e))?;
                    append(&encoded, out);
                }
            }
            Kind::Raw { content_type, rest } => {
                // Content of no bytes still has a type and a place.
                if rest.is_empty() && (self.begun || !self.ended) {
                    return Ok(());
                }
                let mut piece =
                    HttpBody { data: rest.split_to(rest.len().min(PIECE)), ..HttpBody::default() };
                let encoded = if std::mem::replace(&mut self.begun, true) {
                    self.matched.encode_next_http_body(&piece)
                } else {
                    piece.content_type = std::mem::take(content_type);
                    let encoded = self.matched.encode_http_body(query, &piece);
                    encoded.map_err(|error| problems::from_transcode(&self.endpoint, &error))?
                };
                append(&encoded, out);
            }
        }
        Ok(())
    }

    fn poll_messages(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>, Problem>>> {
        let mut out = vec![];
        loop {
            self.take(&mut out)?;
            if !out.is_empty() {
                self.progress.0.fetch_or(MOVED, Relaxed);
                return Poll::Ready(Some(Ok(out)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                None => {
                    self.ended = true;
                    self.progress.0.fetch_or(ENDED | MOVED, Relaxed);
                }
                Some(Err(_)) => {
                    let problem = Problem::new(Code::Cancelled, "The request's body broke off.");
                    return Poll::Ready(Some(Err(problem)));
                }
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    match &mut self.kind {
                        Kind::Lines(lines) => lines.extend(&data),
                        Kind::Raw { rest, .. } => *rest = data,
                    }
                }
            }
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.problem.as_mut().is_none_or(|problem| problem.poll_closed(cx).is_ready()) {
            return Poll::Ready(Some(Err("the call is over".into())));
        }
        Poll::Ready(match ready!(self.poll_messages(cx)) {
            Some(Ok(data)) => Some(Ok(Frame::data(data.into()))),
            Some(Err(problem)) => {
                if let Some(teller) = self.problem.take() {
                    let _ = teller.send(problem);
                }
                Some(Err("the request is not whole".into()))
            }
            None => None,
        })
    }
}
