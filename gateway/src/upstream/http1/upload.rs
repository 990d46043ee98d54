//! A request on its way to an upstream: the head, then the client's body, counted against its limit.

use crate::edge::BodyError;
use bytes::{Buf, Bytes};
use http_body::Body;
use hyper::body::Incoming;
use std::{
    io::{self, IoSlice, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{io::AsyncWrite, net::TcpStream};

use super::request::RequestHead;

/// A client's body, of at most `limit` bytes. Without content it costs nothing.
pub struct RequestBody {
    incoming: Option<Incoming>,
    left: u64,
}

impl RequestBody {
    /// No content.
    pub fn empty() -> Self {
        Self { incoming: None, left: 0 }
    }

    /// A client's body, of at most `limit` bytes.
    pub fn new(incoming: Incoming, limit: u64) -> Self {
        Self { incoming: Some(incoming).filter(|body| !body.is_end_stream()), left: limit }
    }

    fn length(&self) -> Option<u64> {
        self.incoming.as_ref().map_or(Some(0), |body| body.size_hint().exact())
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UploadError>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        loop {
            let frame = match ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(frame) => frame.map_err(|error| UploadError::Client(error.into()))?,
            };
            // Trailers of a request concern the hop that asked for them.
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            self.left = self.left.checked_sub(data.len() as u64).ok_or(UploadError::TooLarge)?;
            return Poll::Ready(Some(Ok(data)));
        }
    }
}

/// Why an upload broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error("the body exceeds its limit")]
    TooLarge,
    #[error("the client's body broke off: {0}")]
    Client(BodyError),
    #[error("{0}")]
    Upstream(io::Error),
}

/// One request that is being sent.
pub(super) struct Upload {
    /// The head, or what frames the next piece.
    framing: Vec<u8>,
    framing_sent: usize,
    piece: Bytes,
    body: RequestBody,
    chunked: bool,
    /// The last chunk's line end is still owed.
    in_chunk: bool,
    begun: bool,
    state: State,
    progress: bool,
    idempotent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The body has more to give.
    Reading,
    /// All there is was taken from the body.
    Read,
    /// All of it was sent.
    Sent,
}

impl Upload {
    pub(super) fn new(head: RequestHead, body: RequestBody) -> Self {
        let length = body.length();
        Self {
            idempotent: head.is_idempotent(),
            framing: head.finish(length),
            framing_sent: 0,
            piece: Bytes::new(),
            chunked: length.is_none(),
            in_chunk: false,
            begun: false,
            state: if body.incoming.is_some() { State::Reading } else { State::Read },
            body,
            progress: false,
        }
    }

    /// The client's body is still on its way.
    pub(super) fn is_running(&self) -> bool {
        self.body.incoming.is_some() && self.state != State::Sent
    }

    pub(super) fn is_sent(&self) -> bool {
        self.state == State::Sent
    }

    /// It is the client, not the upstream, that holds it up.
    pub(super) fn waits_for_client(&self) -> bool {
        self.state == State::Reading && self.framing_left() == 0 && self.piece.is_empty()
    }

    /// Whether anything moved since the last call.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    /// Makes it ready for another connection where that is safe: nothing has left, or what has does no harm twice.
    pub(super) fn rewind(&mut self) -> bool {
        if self.begun && !(self.idempotent && self.body.incoming.is_none()) {
            return false;
        }
        (self.framing_sent, self.begun) = (0, false);
        if self.state == State::Sent {
            self.state = State::Read;
        }
        true
    }

    /// Sends what there is. Ready when all of it was sent.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
    ) -> Poll<Result<(), UploadError>> {
        ready!(self.poll_send(cx, stream))?;
        self.state = State::Sent;
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, stream: &mut TcpStream) -> Poll<Result<(), UploadError>> {
        loop {
            // Before the first byte leaves, so that head and body can leave together.
            if self.state == State::Reading
                && self.piece.is_empty()
                && (!self.begun || self.framing_left() == 0)
            {
                let ready = self.poll_body(cx)?.is_ready();
                if !ready && self.framing_left() == 0 {
                    return Poll::Pending;
                }
            }
            if self.framing_left() == 0 && self.piece.is_empty() {
                match self.state {
                    State::Reading => continue,
                    _ => return Poll::Ready(Ok(())),
                }
            }
            let sent = ready!(self.poll_write(cx, stream)).map_err(UploadError::Upstream)?;
            self.begun = true;
            self.progress = true;
            let framing = sent.min(self.framing_left());
            self.framing_sent += framing;
            self.piece.advance(sent - framing);
        }
    }

    fn framing_left(&self) -> usize {
        self.framing.len() - self.framing_sent
    }

    fn poll_write(&self, cx: &mut Context<'_>, stream: &mut TcpStream) -> Poll<io::Result<usize>> {
        let stream = Pin::new(stream);
        let framing = &self.framing[self.framing_sent..];
        let sent = match (framing.is_empty(), self.piece.is_empty()) {
            (_, true) => ready!(stream.poll_write(cx, framing)),
            (true, _) => ready!(stream.poll_write(cx, &self.piece)),
            _ => ready!(stream.poll_write_vectored(cx, &[IoSlice::new(framing), IoSlice::new(&self.piece)])),
        };
        Poll::Ready(
            sent.and_then(|sent| if sent == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(sent) }),
        )
    }

    /// Takes the body's next piece.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        let data = ready!(self.body.poll_data(cx)).transpose()?;
        self.progress = true;
        if self.framing_left() == 0 {
            self.framing.clear();
            self.framing_sent = 0;
        }
        match data {
            Some(piece) => {
                if self.chunked {
                    self.frame_chunk(piece.len());
                }
                self.piece = piece;
            }
            None => {
                if self.chunked {
                    self.frame_chunk(0);
                    self.framing.extend_from_slice(b"\r\n");
                }
                self.state = State::Read;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Begins a chunk; one of no length is the last.
    fn frame_chunk(&mut self, length: usize) {
        let before = if std::mem::replace(&mut self.in_chunk, true) { "\r\n" } else { "" };
        // Writing to a vector cannot fail.
        let _ = write!(self.framing, "{before}{length:x}\r\n");
    }
}
