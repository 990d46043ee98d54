//! A streaming method over a WebSocket: the handshake, and the sockets that are open. The call's identity, deadline
//! and access are those of the handshake; what is wrong before the 101 is an ordinary HTTP error.

use super::{
    Endpoint,
    inbound::{Agreed, Inbound},
    messages::Call,
    problems, read, request,
    socket::Socket,
};
use crate::edge::{Body, Code, Context, Problem, headers::connection_has, metrics::Metrics};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transcode::Matched;

/// From the 101 until the socket is there.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Kept small: an idle socket holds one of them.
const READ_BUFFER: usize = 4 << 10;
/// Messages that are there already share a write, up to this size.
const WRITE_BUFFER: usize = 8 << 10;

/// How messages are written in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// Text frames of JSON.
    Json,
    /// Binary frames of protobuf.
    Proto,
}

/// Whether a request asks for a WebSocket.
pub(super) fn is_asked<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let asked = headers.get(header::UPGRADE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"));
    asked
        && request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && connection_has(headers, b"upgrade")
}

/// The open sockets of a gateway, over all reloads.
pub struct Sockets {
    open: TaskTracker,
    stop: CancellationToken,
    metrics: Arc<Metrics>,
}

impl Sockets {
    /// None is open yet.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { open: TaskTracker::new(), stop: CancellationToken::new(), metrics })
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Closes all of them, saying that the gateway goes away.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

/// Counts a socket for as long as it is open.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.sockets.fetch_add(1, Relaxed);
        metrics.sockets_total.fetch_add(1, Relaxed);
        Self(Arc::clone(metrics))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Relaxed);
    }
}

/// Answers the handshake; the socket then goes on by itself until its call ends.
pub(super) async fn serve(
    endpoint: &Arc<Endpoint>,
    matched: Matched,
    mut request: Request<Incoming>,
    sockets: &Sockets,
    context: &Context,
) -> Result<Response<Body>, Problem> {
    let accept = accept_key(request.headers())?;
    if sockets.count() >= endpoint.limits.sockets {
        return Err(Problem::new(Code::Overloaded, "Too many WebSockets are open."));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    if !read::whole(body, 0, context).await?.is_empty() {
        return Err(Problem::new(Code::InvalidArgument, "A WebSocket handshake has no body."));
    }
    let bound = bound(endpoint, &matched, &head)?;
    let (wire, protocol) = offered(&head.headers);
    let inbound = Inbound {
        endpoint: Arc::clone(endpoint),
        matched: Arc::new(matched),
        query: head.uri.query().map(str::to_owned),
        begun: bound.is_some(),
    };
    let socket = Socket {
        call: Call::new(endpoint, context),
        inbound,
        bound,
        agreed: Agreed::new(wire),
        request_id: context.request_id_str().to_owned(),
        deadline: context.deadline,
        stop: sockets.stop.clone(),
    };
    let counted = Counted::new(&sockets.metrics);
    let config = config(endpoint);
    sockets.open.spawn(async move {
        if let Some(stream) = upgraded(upgrade, config).await {
            socket.run(stream).await;
        }
        drop(counted);
    });
    Ok(switch(accept, protocol))
}

/// What path and query say. Where there is no body to come, this is the first message; else it is only checked here,
/// so that what is wrong with it is an HTTP error.
fn bound(
    endpoint: &Endpoint,
    matched: &Matched,
    head: &http::request::Parts,
) -> Result<Option<Bytes>, Problem> {
    let encoded = matched.encode_request(head.uri.query(), b"");
    let mut message = encoded.map_err(|error| problems::from_transcode(endpoint, &error))?;
    if matched.takes_body() {
        return Ok(None);
    }
    request::resume(endpoint, matched, &head.headers, &mut message)?;
    Ok(Some(message.into()))
}

fn config(endpoint: &Endpoint) -> WebSocketConfig {
    let limit = usize::try_from(endpoint.limits.body_bytes).unwrap_or(usize::MAX);
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit))
}

pub(super) type Stream = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

async fn upgraded(upgrade: OnUpgrade, config: WebSocketConfig) -> Option<Stream> {
    let upgraded = tokio::time::timeout(HANDSHAKE, upgrade).await.ok()?.ok()?;
    Some(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await)
}

/// The answer to the client's key (RFC 6455, section 4.2.2).
fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    let refuse = |detail| Problem::new(Code::InvalidArgument, detail);
    let one = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    if one(header::SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(refuse("Expected Sec-WebSocket-Version: 13."));
    }
    let key = one(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24 && key.ends_with(b"=="));
    let key = key.ok_or_else(|| refuse("Expected a Sec-WebSocket-Key of 16 bytes in base64."))?;
    HeaderValue::try_from(derive_accept_key(key)).map_err(|_| refuse("Sec-WebSocket-Key is not valid."))
}

/// The first subprotocol of the client's that is known; it fixes how messages are written.
fn offered(headers: &HeaderMap) -> (Option<Wire>, Option<HeaderValue>) {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut names = values.flat_map(|value| value.to_str().unwrap_or_default().split(',')).map(str::trim);
    let known = names.find_map(|name| match name {
        "hybrid.json" => Some((Wire::Json, HeaderValue::from_static("hybrid.json"))),
        "hybrid.proto" => Some((Wire::Proto, HeaderValue::from_static("hybrid.proto"))),
        _ => None,
    });
    known.unzip()
}

fn switch(accept: HeaderValue, protocol: Option<HeaderValue>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}
