//! A streaming method over a WebSocket: the handshake, and the sockets that are open. The call's identity, deadline
//! and access are those of the handshake; what is wrong before it is granted is an ordinary HTTP error.

use super::{
    Endpoint,
    inbound::{Agreed, Inbound},
    messages::Call,
    problems, read, request,
    socket::Socket,
};
use crate::edge::{self, Body, Code, Context, Problem, metrics::Metrics, websocket::Handshake};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Role, WebSocketConfig},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transcode::Matched;

/// From the answer until the socket is there.
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
    let handshake = Handshake::take(&mut request);
    let accept = handshake.accept(request.headers())?;
    if sockets.count() >= endpoint.limits.sockets {
        return Err(Problem::new(Code::Overloaded, "Too many WebSockets are open."));
    }
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
    let response = handshake.grant(answers(accept, protocol));
    sockets.open.spawn(async move {
        if let Some(client) = handshake.socket(HANDSHAKE).await {
            let stream = WebSocketStream::from_raw_socket(client, Role::Server, Some(config));
            socket.run(stream.await).await;
        }
        drop(counted);
    });
    Ok(response)
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

pub(super) type Stream = WebSocketStream<edge::websocket::Socket>;

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

/// What the answer says beside its status.
fn answers(accept: Option<HeaderValue>, protocol: Option<HeaderValue>) -> HeaderMap {
    let accept = accept.map(|accept| (header::SEC_WEBSOCKET_ACCEPT, accept));
    let protocol = protocol.map(|protocol| (header::SEC_WEBSOCKET_PROTOCOL, protocol));
    accept.into_iter().chain(protocol).collect()
}
