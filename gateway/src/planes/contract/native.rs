//! Native gRPC, passed through: messages, metadata and trailers untouched; the access rule, the identity, the deadline
//! and the bound on a message are the gateway's. What fails after the response's head ends with trailers, as a gRPC
//! client expects; in the middle of a message it is a reset, for clients do not agree on trailers after half of one.

use super::{Endpoint, headers, heads::Heads, problems, read, wire};
use crate::{
    edge::{
        Body, BodyError, Code, Context as CallContext, Problem, headers as edge_headers,
        headers::REQUEST_TIMEOUT, problem::Style,
    },
    upstream::grpc::{CallError, LeasedBody},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::time::Sleep;

pub(super) async fn serve(
    endpoint: &Arc<Endpoint>,
    request: Request<Incoming>,
    context: &CallContext,
) -> Result<Response<Body>, Problem> {
    if request.version() != Version::HTTP_2 {
        return Err(Problem::new(Code::InvalidArgument, "gRPC needs HTTP/2."));
    }
    let (mut head, body) = request.into_parts();
    forwardable(&mut head.headers);
    headers::write(&mut head.headers, endpoint, context);
    head.uri = Uri::from(endpoint.method.grpc_path().clone());
    head.extensions = http::Extensions::new();
    let too_large = Arc::new(AtomicBool::new(false));
    let upload = Upload { body, bound: Bound::new(endpoint), too_large: Arc::clone(&too_large) };
    let call = endpoint.pool.send(Request::from_parts(head, tonic::body::Body::new(upload)));
    let started = Instant::now();
    let answer = tokio::time::timeout_at(context.deadline.into(), call).await;
    context.set_upstream_time(started.elapsed());
    let response = match answer.map_err(|_| problems::timed_out())? {
        Ok(response) => response,
        Err(_) if too_large.load(Relaxed) => return Err(read::too_large(endpoint.limits.body_bytes)),
        Err(error) => return Err(problems::from_call(endpoint, &error)),
    };
    let (mut head, body) = response.into_parts();
    let found = edge_headers::scan(&head.headers);
    edge_headers::strip(&mut head.headers, found);
    if body.is_end_stream() {
        return Ok(Response::from_parts(head, Body::empty()));
    }
    let download = Download {
        endpoint: Arc::clone(endpoint),
        body: Some(body),
        heads: wire::speaks_grpc(&head.headers).then(|| Heads::new(endpoint.limits.body_bytes)),
        problem: None,
        too_large,
        timer: Box::pin(tokio::time::sleep_until(context.deadline.into())),
    };
    Ok(Response::from_parts(head, Body::stream(download)))
}

/// Leaves what the upstream may see: the client's metadata, but no credentials and nothing of the connection.
pub(super) fn forwardable(headers: &mut HeaderMap) {
    edge_headers::strip(headers, edge_headers::scan(headers));
    for name in [header::AUTHORIZATION, header::COOKIE, header::HOST, header::FORWARDED, REQUEST_TIMEOUT] {
        headers.remove(name);
    }
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
}

/// What a request may hold.
enum Bound {
    /// The bytes that are left of a single message, which is bounded as a JSON body is.
    Whole(u64),
    /// Any number of messages, each of which is bounded.
    Each(Heads),
}

impl Bound {
    fn new(endpoint: &Endpoint) -> Self {
        let limit = endpoint.limits.body_bytes;
        if endpoint.method.is_client_streaming() { Self::Each(Heads::new(limit)) } else { Self::Whole(limit) }
    }

    /// Whether the next piece keeps to it.
    fn takes(&mut self, piece: &[u8]) -> bool {
        match self {
            Self::Whole(left) => left.checked_sub(piece.len() as u64).inspect(|rest| *left = *rest).is_some(),
            Self::Each(heads) => heads.pass(piece).is_ok(),
        }
    }
}

/// The request's body, bounded.
struct Upload {
    body: Incoming,
    bound: Bound,
    too_large: Arc<AtomicBool>,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !self.bound.takes(data)
        {
            self.too_large.store(true, Relaxed);
            return Poll::Ready(Some(Err("a message is too large".into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The response's body, until the deadline.
struct Download {
    endpoint: Arc<Endpoint>,
    /// None once the gateway has ended the stream itself.
    body: Option<LeasedBody>,
    /// None where the answer is not gRPC.
    heads: Option<Heads>,
    /// What ends the stream when the data before it has left.
    problem: Option<Problem>,
    /// The upload has ended the call.
    too_large: Arc<AtomicBool>,
    timer: Pin<Box<Sleep>>,
}

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// The status that a trailers-only response has in its head.
fn trailers(problem: &Problem) -> HeaderMap {
    let mut headers = problem.response(&HeaderValue::from_static("-"), Style::Grpc).into_parts().0.headers;
    headers.remove(header::CONTENT_TYPE);
    headers
}

impl Download {
    fn is_torn(&self) -> bool {
        self.heads.as_ref().is_some_and(Heads::is_torn)
    }

    fn end(&mut self, problem: &Problem) -> Polled {
        self.body = None;
        if self.is_torn() {
            let (upstream, code) = (&self.endpoint.upstream.name, problem.code().name());
            tracing::warn!(upstream, code, "a message broke off in the middle; the stream is reset");
            return Poll::Ready(Some(Err("a message broke off".into())));
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers(problem)))))
    }

    fn failed(&self, error: &CallError) -> Problem {
        match self.too_large.load(Relaxed) {
            true => read::too_large(self.endpoint.limits.body_bytes),
            false => problems::from_call(&self.endpoint, error),
        }
    }

    /// Data as it came, up to a message that is too large; its end, unless a message is not whole.
    fn pass(&mut self, frame: Frame<Bytes>) -> Polled {
        let Some(heads) = &mut self.heads else { return Poll::Ready(Some(Ok(frame))) };
        match frame.into_data() {
            Ok(mut data) => match heads.pass(&data) {
                Ok(()) => Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(before) => {
                    let problem = problems::answer_too_large(self.endpoint.limits.body_bytes);
                    data.truncate(before);
                    if data.is_empty() {
                        return self.end(&problem);
                    }
                    (self.body, self.problem) = (None, Some(problem));
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
            },
            Err(_) if heads.is_torn() => self.end(&broken_off()),
            Err(frame) => Poll::Ready(Some(Ok(frame))),
        }
    }
}

fn broken_off() -> Problem {
    Problem::new(Code::BadGateway, "The upstream's answer breaks off.")
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        if let Some(problem) = self.problem.take() {
            return self.end(&problem);
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => self.pass(frame),
            Poll::Ready(Some(Err(error))) => {
                let problem = self.failed(&error);
                self.end(&problem)
            }
            Poll::Ready(None) if self.is_torn() => self.end(&broken_off()),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                ready!(self.timer.as_mut().poll(cx));
                self.end(&problems::timed_out())
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let ended = self.body.as_ref().is_none_or(http_body::Body::is_end_stream);
        ended && self.problem.is_none() && !self.is_torn()
    }
}
