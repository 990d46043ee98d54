//! A call to an upstream and the messages of its answer, read straight from HTTP/2's data: one frame may hold many
//! messages, and none of them is copied. Dropping it cancels the call.

use super::{Endpoint, headers, problems, upload::Uplink};
use crate::{
    edge::{self, Context as CallContext, Problem, headers::SERVER_TIMING},
    upstream::grpc::{CallError, LeasedBody},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tonic::Code;
use transcode::{
    envelope::{Decoder, Envelope, EnvelopeError},
    status::Details,
};

const STATUS: &str = "grpc-status";

/// A call that is to be made: its head has been written, the budget of the moment included.
pub(super) struct Call {
    pub(super) endpoint: Arc<Endpoint>,
    head: http::request::Parts,
}

impl Call {
    pub(super) fn new(endpoint: &Arc<Endpoint>, context: &CallContext) -> Self {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = Method::POST;
        head.uri = endpoint.method.grpc_path().clone().into();
        head.headers = HeaderMap::with_capacity(8);
        head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        head.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers::write(&mut head.headers, endpoint, context);
        Self { endpoint: Arc::clone(endpoint), head }
    }

    /// Makes the call, at the first poll of its messages.
    pub(super) fn open(self, body: tonic::body::Body, uplink: Option<Uplink>) -> Messages {
        let pool = Arc::clone(&self.endpoint.pool);
        let request = Request::from_parts(self.head, body);
        let opening = Box::pin(async move { pool.send(request).await });
        Messages { endpoint: self.endpoint, state: State::Opening(opening), uplink, timing: None }
    }
}

/// The messages of an answer, from before its head has come.
pub(super) struct Messages {
    endpoint: Arc<Endpoint>,
    state: State,
    /// Where the request is still being sent.
    uplink: Option<Uplink>,
    /// What the upstream says of its own timing, in the head of its answer or at its end.
    pub(super) timing: Option<HeaderValue>,
}

type Opening = Pin<Box<dyn Future<Output = Result<Response<LeasedBody>, CallError>> + Send>>;

enum State {
    Opening(Opening),
    Open(Frames),
    Ended,
}

impl Messages {
    /// The next message; `None` after the upstream's OK. Whatever else ends the call is a problem, and then it is over.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Problem>>> {
        if let Some(problem) = self.poll_uplink(cx) {
            return Poll::Ready(Some(Err(problem)));
        }
        let mut next = ready!(self.poll_state(cx));
        // What is wrong with the request explains what the upstream makes of its breaking off.
        if matches!(next, Some(Err(_)))
            && let Some(problem) = self.poll_uplink(cx)
        {
            next = Some(Err(problem));
        }
        if !matches!(next, Some(Ok(_))) {
            self.state = State::Ended;
            self.uplink = None;
        }
        Poll::Ready(next)
    }

    /// Whether the request ended the call, because it could not be read.
    fn poll_uplink(&mut self, cx: &mut Context<'_>) -> Option<Problem> {
        let Poll::Ready(ended) = self.uplink.as_mut()?.poll_problem(cx) else { return None };
        self.uplink = None;
        ended.inspect(|_| self.state = State::Ended)
    }

    fn poll_state(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Problem>>> {
        loop {
            match &mut self.state {
                State::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(response) => {
                        self.timing = response.headers().get(SERVER_TIMING).cloned();
                        if let Some(ended) = ended_by_head(&self.endpoint, &response) {
                            return Poll::Ready(ended.err().map(Err));
                        }
                        self.state = State::Open(Frames::new(response.into_body(), &self.endpoint));
                    }
                    Err(error) => return Poll::Ready(Some(Err(problems::from_call(&self.endpoint, &error)))),
                },
                State::Open(frames) => return frames.poll_next(cx, &self.endpoint, &mut self.timing),
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    /// For a client that does not read: what waits for it is kept in as little memory as it can be. `cx` is woken
    /// for what comes next, in the place of whoever polled last.
    pub(super) fn set_aside(&mut self, cx: &mut Context<'_>) {
        if let State::Open(frames) = &mut self.state {
            frames.decoder.detach();
            frames.body.set_aside(cx);
        }
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Problem>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The one message of a unary answer, once its status is known to be OK.
    pub(super) async fn single(&mut self) -> Result<Bytes, Problem> {
        let broken = |detail| Problem::new(edge::Code::BadGateway, detail);
        let message = self.next().await.ok_or_else(|| broken("The upstream's answer is empty."))??;
        match self.next().await {
            None => Ok(message),
            Some(Err(problem)) => Err(problem),
            Some(Ok(_)) => Err(broken("The upstream's answer has more than one message.")),
        }
    }
}

/// Where the head is all there is: OK, or what went wrong.
fn ended_by_head<B>(endpoint: &Endpoint, response: &Response<B>) -> Option<Result<(), Problem>> {
    if response.status() == StatusCode::OK || response.headers().contains_key(STATUS) {
        return status(endpoint, response.headers());
    }
    let code = transcode::status::Code::from_http_status(response.status());
    let message = format!("HTTP status {}", response.status().as_u16());
    Some(Err(problems::from_parts(endpoint, code.number().into(), &message, Details::default())))
}

/// The status that a head or trailers state.
fn status(endpoint: &Endpoint, headers: &HeaderMap) -> Option<Result<(), Problem>> {
    let code = Code::from_bytes(headers.get(STATUS)?.as_bytes());
    if code == Code::Ok {
        return Some(Ok(()));
    }
    let message = headers.get("grpc-message").map_or(&b""[..], HeaderValue::as_bytes);
    let message = percent_encoding::percent_decode(message).decode_utf8_lossy();
    let details = headers.get("grpc-status-details-bin");
    let details = details.map(|value| Details::from_trailer(value.as_bytes())).unwrap_or_default();
    Some(Err(problems::from_parts(endpoint, code, &message, details)))
}

/// Takes length-prefixed messages out of a body.
struct Frames {
    body: LeasedBody,
    decoder: Decoder,
}

impl Frames {
    fn new(body: LeasedBody, endpoint: &Endpoint) -> Self {
        // An answer's message is bounded as a request's is.
        Self { body, decoder: Decoder::new(endpoint.limits.body_bytes) }
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        endpoint: &Endpoint,
        timing: &mut Option<HeaderValue>,
    ) -> Poll<Option<Result<Bytes, Problem>>> {
        let broken = |detail: String| Poll::Ready(Some(Err(Problem::new(edge::Code::BadGateway, detail))));
        loop {
            match self.decoder.next_envelope() {
                Ok(None) => {}
                Ok(Some(Envelope { compressed: false, data })) => return Poll::Ready(Some(Ok(data))),
                // None was accepted, so none may be used.
                Ok(Some(_)) => return broken("The upstream's answer is compressed.".to_owned()),
                Err(EnvelopeError::TooLarge { limit, .. }) => {
                    return broken(problems::too_large_answer(limit));
                }
                Err(_) => return broken("The upstream's answer is not gRPC.".to_owned()),
            }
            let ended = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.decoder.push(data);
                        continue;
                    }
                    Err(frame) => frame.into_trailers().ok().and_then(|mut trailers| {
                        *timing = trailers.remove(SERVER_TIMING).or_else(|| timing.take());
                        status(endpoint, &trailers)
                    }),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(problems::from_call(endpoint, &error)))),
                None => None,
            };
            return Poll::Ready(match ended {
                Some(Ok(())) if self.decoder.finish().is_ok() => None,
                Some(Err(problem)) => Some(Err(problem)),
                _ => Some(Err(Problem::new(edge::Code::BadGateway, "The upstream's answer breaks off."))),
            });
        }
    }
}
