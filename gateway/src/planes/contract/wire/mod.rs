//! What gRPC-Web and Connect share: a call to the upstream whose request is re-framed on its way up and whose messages
//! are pulled, one by one, on their way down. Nothing is buffered but one incomplete message in each direction.

mod messages;
mod upload;

pub(super) use messages::{Ending, Messages, STALLED};
pub(super) use upload::{Recode, Upload};

use super::{Endpoint, headers, native, problems};
use crate::edge::{Code, Context, Problem, headers as edge_headers};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use std::{
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use transcode::envelope::EnvelopeError;

/// Headers that say how the client framed its request, and what it would read; the upstream is told anew.
const FRAMING: [HeaderName; 5] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    HeaderName::from_static("x-grpc-web"),
];

/// What the two directions of a call know of each other.
pub(super) struct Exchange {
    begun: Instant,
    deadline: Instant,
    /// How long a stream may rest.
    idle: Option<Duration>,
    /// When the last message passed, either way, in ms from the beginning.
    moved: AtomicU64,
    /// Why the gateway did not read the request's body to its end.
    refusal: OnceLock<Problem>,
    /// The response has ended, or nobody wants it: the request's body is of no use any more.
    over: CancellationToken,
}

impl Exchange {
    pub(super) fn new(endpoint: &Endpoint, context: &Context) -> Arc<Self> {
        let streaming = endpoint.method.is_client_streaming() || endpoint.method.is_server_streaming();
        Arc::new(Self {
            begun: Instant::now(),
            deadline: context.deadline,
            idle: streaming.then_some(endpoint.limits.stream_idle),
            moved: AtomicU64::new(0),
            refusal: OnceLock::new(),
            over: CancellationToken::new(),
        })
    }

    fn moved(&self) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(millis, Relaxed);
    }

    /// When to look again whether it is over.
    fn moment(&self) -> Instant {
        let moved = self.begun + Duration::from_millis(self.moved.load(Relaxed));
        self.idle.map_or(self.deadline, |idle| self.deadline.min(moved + idle))
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.moment()
    }

    fn refuse(&self, problem: Problem) {
        let _ = self.refusal.set(problem);
    }

    fn refusal(&self) -> Option<Problem> {
        self.refusal.get().cloned()
    }
}

/// How the upstream's answer began.
pub(super) enum Answer {
    /// A status alone, in the head.
    Status(HeaderMap),
    /// Leading metadata; messages and the status follow.
    Stream(HeaderMap, Messages),
}

/// Calls the method. `headers` are the client's; those of its own framing do not pass.
pub(super) async fn open(
    endpoint: &Arc<Endpoint>,
    headers: HeaderMap,
    body: tonic::body::Body,
    exchange: &Arc<Exchange>,
    context: &Context,
) -> Result<Answer, Problem> {
    // However this ends, the upload ends with it.
    let over = exchange.over.clone().drop_guard();
    let mut call = pin!(endpoint.pool.send(request(endpoint, headers, body, context)));
    let started = Instant::now();
    let answer = loop {
        match tokio::time::timeout_at(exchange.moment().into(), &mut call).await {
            Ok(answer) => break Ok(answer),
            Err(_) if exchange.is_late() => break Err(problems::timed_out()),
            Err(_) => {}
        }
    };
    context.set_upstream_time(started.elapsed());
    let response = answer?
        .map_err(|error| exchange.refusal().unwrap_or_else(|| problems::from_call(endpoint, &error)))?;
    let (head, body) = response.into_parts();
    // With or without an empty body after it.
    if head.headers.contains_key("grpc-status") {
        return Ok(Answer::Status(head.headers));
    }
    if head.status != StatusCode::OK || !speaks_grpc(&head.headers) {
        tracing::warn!(upstream = endpoint.upstream.name, status = %head.status, "the upstream does not speak gRPC");
        return Err(Problem::new(Code::BadGateway, "The upstream's answer is not gRPC."));
    }
    let messages = Messages::new(endpoint, exchange, body, over);
    Ok(Answer::Stream(head.headers, messages))
}

fn request(
    endpoint: &Endpoint,
    mut metadata: HeaderMap,
    body: tonic::body::Body,
    context: &Context,
) -> Request<tonic::body::Body> {
    native::forwardable(&mut metadata);
    for name in FRAMING {
        metadata.remove(name);
    }
    metadata.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
    headers::write(&mut metadata, endpoint, context);
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from(endpoint.method.grpc_path().clone());
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = metadata;
    request
}

/// Whether an answer's head says that messages follow.
pub(super) fn speaks_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The upstream's headers or trailers as they may pass.
pub(super) fn passing(mut headers: HeaderMap) -> HeaderMap {
    let found = edge_headers::scan(&headers);
    edge_headers::strip(&mut headers, found);
    headers.remove(header::CONTENT_LENGTH);
    headers
}

/// A client's body that is not framed as it should be.
pub(super) fn misframed(error: EnvelopeError) -> Problem {
    let code = match error {
        EnvelopeError::TooLarge { .. } => Code::BodyTooLarge,
        _ => Code::InvalidArgument,
    };
    Problem::new(code, problems::capitalised(&error.to_string()))
}
