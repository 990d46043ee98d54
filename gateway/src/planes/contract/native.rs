//! Native gRPC, passed through: messages, metadata and trailers untouched; the access rule, the identity and the
//! deadline are the gateway's. What fails after the response's head ends with trailers, as a gRPC client expects.

use super::{Endpoint, headers, problems, read};
use crate::{
    edge::{
        Body, BodyError, Code, Context as CallContext, Problem, headers as edge_headers,
        headers::REQUEST_TIMEOUT, problem::Style,
    },
    upstream::grpc::LeasedBody,
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
    let upload = Upload { body, left: upload_limit(endpoint), too_large: Arc::clone(&too_large) };
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
    let timer = Box::pin(tokio::time::sleep_until(context.deadline.into()));
    let download = Download { endpoint: Arc::clone(endpoint), body: Some(body), timer };
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

/// A single message is bounded as a JSON body is; a stream of them is bounded by its deadline alone.
fn upload_limit(endpoint: &Endpoint) -> u64 {
    if endpoint.method.is_client_streaming() { u64::MAX } else { endpoint.limits.body_bytes }
}

/// The request's body, counted.
struct Upload {
    body: Incoming,
    left: u64,
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
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.too_large.store(true, Relaxed);
                    return Poll::Ready(Some(Err("the body is too large".into())));
                }
            }
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
    timer: Pin<Box<Sleep>>,
}

/// The status that a trailers-only response has in its head.
fn trailers(problem: &Problem) -> HeaderMap {
    let mut headers = problem.response(&HeaderValue::from_static("-"), Style::Grpc).into_parts().0.headers;
    headers.remove(header::CONTENT_TYPE);
    headers
}

impl Download {
    fn end(&mut self, problem: &Problem) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.body = None;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(problem)))))
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => {
                let problem = problems::from_call(&self.endpoint, &error);
                self.end(&problem)
            }
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => {
                ready!(self.timer.as_mut().poll(cx));
                self.end(&problems::timed_out())
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}
