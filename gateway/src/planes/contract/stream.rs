//! A server-streaming method as an event stream (SSE).
//!
//! The HTTP status is decided by the first message or the trailers, whichever comes first, for as long as
//! `first_event` allows. The upstream's stream lives in the response's body and nowhere else: when the client goes,
//! the body is dropped and the upstream sees the cancellation at once.

use super::{Endpoint, problems, unary};
use crate::{
    edge::{Body, BodyError, Context as CallContext, Problem, headers::SERVER_TIMING},
    upstream::grpc::RawCodec,
};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::Frame;
use hyper::body::Incoming;
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{task::AbortHandle, time::Sleep};
use tonic::{Status, Streaming};
use transcode::Matched;

/// Messages that are there already share a write, up to this size.
const WRITE: usize = 16 << 10;

pub(super) async fn serve(
    endpoint: &Arc<Endpoint>,
    matched: Matched,
    request: Request<Incoming>,
    context: &CallContext,
) -> Result<Response<Body>, Problem> {
    let (head, body) = request.into_parts();
    let message = unary::message(endpoint, &matched, &head, body, context).await?;
    if head.method == Method::HEAD {
        return Ok(respond(Body::empty(), None));
    }
    let call = unary::prepare(endpoint, message, context);
    let (mut client, path) = (unary::client(endpoint), endpoint.method.grpc_path().clone());
    let open = Box::pin(async move { client.server_streaming(call, path, RawCodec).await });
    let started = Instant::now();
    let mut source = Source { state: State::Opening(open), timing: None };
    let patience = context.deadline.min(started + endpoint.limits.first_event);
    let first = tokio::time::timeout_at(patience.into(), poll_fn(|cx| source.poll_next(cx))).await;
    context.set_upstream_time(started.elapsed());
    let first = match first {
        Ok(Some(Err(status))) => return Err(problems::from_status(endpoint, &status)),
        Ok(Some(Ok(message))) => {
            let json = matched.decode_response(&message);
            Some(Some(json.map_err(|error| problems::from_transcode(endpoint, &error))?))
        }
        Ok(None) => Some(None),
        Err(_) if Instant::now() >= context.deadline => return Err(problems::timed_out()),
        Err(_) => None,
    };
    let timing = source.timing.take();
    let mut events = Events::new(endpoint, matched, source, context);
    match first {
        Some(Some(json)) => events.put_message(&json),
        Some(None) => events.end(),
        None => {}
    }
    Ok(respond(Body::stream(events), timing))
}

fn respond(body: Body, timing: Option<HeaderValue>) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Other proxies on the way must not buffer either.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    if let Some(timing) = timing {
        headers.insert(SERVER_TIMING, timing);
    }
    response
}

type Opening = Pin<Box<dyn Future<Output = Result<tonic::Response<Streaming<Bytes>>, Status>> + Send>>;

/// The upstream's messages, from before its response's head has come.
struct Source {
    state: State,
    /// What the upstream says of its own timing.
    timing: Option<HeaderValue>,
}

#[expect(clippy::large_enum_variant, reason = "one for each stream, in a body that is boxed as a whole")]
enum State {
    Opening(Opening),
    Open(Streaming<Bytes>),
    Ended,
    /// Ended because the client does not read.
    Unread,
}

impl Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match &mut self.state {
                State::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(response) => {
                        self.timing = response.metadata().as_ref().get(SERVER_TIMING).cloned();
                        self.state = State::Open(response.into_inner());
                    }
                    Err(status) => {
                        self.state = State::Ended;
                        return Poll::Ready(Some(Err(status)));
                    }
                },
                State::Open(stream) => {
                    let next = ready!(Pin::new(stream).poll_next(cx));
                    if !matches!(next, Some(Ok(_))) {
                        self.state = State::Ended;
                    }
                    return Poll::Ready(next);
                }
                State::Ended => return Poll::Ready(None),
                State::Unread => {
                    return Poll::Ready(Some(Err(Status::cancelled("The events were not read."))));
                }
            }
        }
    }
}

/// The upstream's stream, within reach of the one who looks whether the client reads.
///
/// A body that nobody polls cannot watch its own time: a client that stops reading would hold the upstream's work
/// for as long as it likes. The watch holds no stream; it only ends one.
struct Shared(Mutex<(Source, Instant)>);

impl Shared {
    /// The source, and when it was last asked for.
    fn lock(&self) -> MutexGuard<'_, (Source, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn watch(self: Arc<Self>, patience: Duration) {
        loop {
            let asked = self.lock().1;
            let until = asked + patience;
            if Instant::now() >= until {
                self.lock().0.state = State::Unread;
                return;
            }
            tokio::time::sleep_until(until.into()).await;
        }
    }
}

/// The response's body.
struct Events {
    endpoint: Arc<Endpoint>,
    matched: Matched,
    source: Arc<Shared>,
    watch: AbortHandle,
    request_id: String,
    buffer: BytesMut,
    ended: bool,
    /// One timer for heartbeat, idle and total time: it looks at the moments below when it fires.
    timer: Pin<Box<Sleep>>,
    last_sent: Instant,
    last_message: Instant,
    deadline: Instant,
}

impl Events {
    fn new(endpoint: &Arc<Endpoint>, matched: Matched, source: Source, context: &CallContext) -> Self {
        let now = Instant::now();
        let source = Arc::new(Shared(Mutex::new((source, now))));
        // A client that reads lets the body be polled at every heartbeat at least.
        let patience = endpoint.limits.stream_idle.max(endpoint.limits.heartbeat) + endpoint.limits.heartbeat;
        let mut events = Self {
            endpoint: Arc::clone(endpoint),
            matched,
            watch: tokio::spawn(Arc::clone(&source).watch(patience)).abort_handle(),
            source,
            request_id: context.request_id_str().to_owned(),
            buffer: BytesMut::new(),
            ended: false,
            timer: Box::pin(tokio::time::sleep_until(now.into())),
            last_sent: now,
            last_message: now,
            deadline: context.deadline,
        };
        let next = events.next_moment();
        events.timer.as_mut().reset(next.into());
        events
    }

    fn put(&mut self, before: &[u8], data: &[u8]) {
        self.buffer.reserve(before.len() + data.len() + 2);
        self.buffer.put_slice(before);
        self.buffer.put_slice(data);
        self.buffer.put_slice(b"\n\n");
    }

    fn put_message(&mut self, json: &[u8]) {
        self.put(b"data: ", json);
    }

    fn end(&mut self) {
        self.put(b"event: end\ndata: ", b"{}");
        self.finish();
    }

    fn fail(&mut self, problem: &Problem) {
        let document = problem.document(&self.request_id);
        self.put(b"event: error\ndata: ", &document);
        self.finish();
    }

    /// Lets the upstream go: what is left is to write the buffer.
    fn finish(&mut self) {
        self.ended = true;
        self.source.lock().0.state = State::Ended;
        self.watch.abort();
    }

    /// Takes the messages that are there.
    fn poll_source(&mut self, cx: &mut Context<'_>) {
        while !self.ended && self.buffer.len() < WRITE {
            let now = Instant::now();
            let polled = {
                let mut source = self.source.lock();
                source.1 = now;
                source.0.poll_next(cx)
            };
            let Poll::Ready(next) = polled else { return };
            self.last_message = now;
            match next {
                Some(Ok(message)) => match self.matched.decode_response(&message) {
                    Ok(json) => self.put_message(&json),
                    Err(error) => self.fail(&problems::from_transcode(&self.endpoint, &error)),
                },
                Some(Err(status)) => self.fail(&problems::from_status(&self.endpoint, &status)),
                None => self.end(),
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        while !self.ended && self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if now >= self.deadline || now >= self.last_message + self.endpoint.limits.stream_idle {
                self.fail(&problems::timed_out());
            } else if now >= self.last_sent + self.endpoint.limits.heartbeat {
                self.put(b": keep-alive", b"");
                self.last_sent = now;
            }
            let next = self.next_moment();
            self.timer.as_mut().reset(next.into());
        }
    }

    fn next_moment(&self) -> Instant {
        let limits = &self.endpoint.limits;
        (self.last_sent + limits.heartbeat).min(self.last_message + limits.stream_idle).min(self.deadline)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.finish();
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_source(cx);
        self.poll_timer(cx);
        if !self.buffer.is_empty() {
            self.last_sent = Instant::now();
            return Poll::Ready(Some(Ok(Frame::data(self.buffer.split().freeze()))));
        }
        if self.ended { Poll::Ready(None) } else { Poll::Pending }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.buffer.is_empty()
    }
}
