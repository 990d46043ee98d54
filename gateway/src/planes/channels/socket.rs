//! A client's WebSocket until its conversation begins: the handshake, and the list of those that are open.

use super::{
    Channels, Limits,
    conversation::{Conversation, Ends},
    identity, problems,
};
use crate::edge::{Body, Code, Context, Problem, websocket, websocket::Handshake};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use hub::{Hub, Wire};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::TokioIo;
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::net::TcpStream;
use tokio_util::either::Either;

/// From the answer until the socket is there.
const HANDSHAKE: Duration = Duration::from_secs(10);

const JSON: &str = "hybrid.channels.v1.json";
const PROTO: &str = "hybrid.channels.v1.proto";

/// Answers the handshake; the socket then goes on by itself.
pub(super) fn serve(
    channels: &Arc<Channels>,
    hub: &Hub,
    limits: Limits,
    mut request: Request<Incoming>,
    context: &Context,
) -> Result<Response<Body>, Problem> {
    if !websocket::is_asked(&request) {
        let detail = "This path is a WebSocket: expected a handshake (Upgrade: websocket).";
        return Err(Problem::new(Code::InvalidArgument, detail));
    }
    if !request.body().is_end_stream() {
        return Err(Problem::new(Code::InvalidArgument, "A WebSocket handshake has no body."));
    }
    let handshake = Handshake::take(&mut request);
    let accept = handshake.accept(request.headers())?;
    let (wire, protocol) = offered(request.headers())?;
    let opened = hub.open(identity::of(&context.caller), wire);
    let (client, outbox) = opened.map_err(|closing| problems::of_closing(&closing))?;
    let response = handshake.grant(answers(accept, protocol));
    let ends = Ends { client, outbox, wire, limits };
    channels.open(|guard| async move {
        // Boxed apart, so that the handshake's state is given back before the socket's long life.
        match Box::pin(connect(handshake, ends)).await {
            Some(Either::Left(conversation)) => conversation.run().await,
            Some(Either::Right(conversation)) => Conversation::run(*Pin::into_inner(conversation)).await,
            None => {}
        }
        drop(guard);
    });
    Ok(response)
}

/// The client's subprotocol; without one it is JSON.
fn offered(headers: &HeaderMap) -> Result<(Wire, Option<HeaderValue>), Problem> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut names = values.flat_map(|value| value.to_str().unwrap_or_default().split(',')).map(str::trim);
    let known = names.find_map(|name| match name {
        JSON => Some((Wire::WebSocketJson, Some(HeaderValue::from_static(JSON)))),
        PROTO => Some((Wire::WebSocketProtobuf, Some(HeaderValue::from_static(PROTO)))),
        _ => None,
    });
    match known {
        Some(known) => Ok(known),
        None if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) => Ok((Wire::WebSocketJson, None)),
        None => {
            let detail = format!("No such subprotocol: expected {JSON} or {PROTO}.");
            Err(Problem::new(Code::InvalidArgument, detail))
        }
    }
}

/// What the answer says beside its status.
fn answers(accept: Option<HeaderValue>, protocol: Option<HeaderValue>) -> HeaderMap {
    let accept = accept.map(|accept| (header::SEC_WEBSOCKET_ACCEPT, accept));
    let protocol = protocol.map(|protocol| (header::SEC_WEBSOCKET_PROTOCOL, protocol));
    accept.into_iter().chain(protocol).collect()
}

impl Channels {
    /// Runs a socket, which is listed until the guard is dropped.
    fn open<F: Future<Output = ()> + Send + 'static>(self: &Arc<Self>, run: impl FnOnce(Guard) -> F) {
        let id = self.next.fetch_add(1, Relaxed);
        // The lock is held over the spawn, so that a socket cannot end before it is listed.
        let mut open = self.lock();
        let task = tokio::spawn(run(Guard { channels: Arc::clone(self), id }));
        open.insert(id, task.abort_handle());
    }
}

/// Takes a socket off the list, however it ends.
struct Guard {
    channels: Arc<Channels>,
    id: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.channels.lock().remove(&self.id);
    }
}

/// Over HTTP/1.1 it is a plain socket. The other kind is larger, and so apart.
type Opened = Either<Conversation<TcpStream>, Pin<Box<Conversation<websocket::StreamSocket>>>>;

async fn connect(handshake: Handshake, ends: Ends) -> Option<Opened> {
    Some(match handshake.socket(HANDSHAKE).await? {
        Either::Left(upgraded) => {
            let parts = upgraded.into_inner().downcast::<TokioIo<TcpStream>>().ok()?;
            Either::Left(Conversation::new(parts.io.into_inner(), parts.read_buf, ends))
        }
        Either::Right(stream) => Either::Right(Box::pin(Conversation::new(stream, Bytes::new(), ends))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(value: &'static str) -> Result<(Wire, Option<HeaderValue>), Problem> {
        offered(&[(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(value))].into_iter().collect())
    }

    #[test]
    fn the_first_known_subprotocol_counts_and_none_is_json() {
        let (wire, protocol) = offer("other, hybrid.channels.v1.proto, hybrid.channels.v1.json").unwrap();
        assert_eq!((wire, protocol.unwrap().to_str().unwrap()), (Wire::WebSocketProtobuf, PROTO));
        assert_eq!(offer("hybrid.channels.v1.json").unwrap().0, Wire::WebSocketJson);
        assert_eq!(offered(&HeaderMap::new()).unwrap(), (Wire::WebSocketJson, None));
        assert!(format!("{:?}", offer("graphql-ws").unwrap_err()).contains(JSON));
    }

    #[test]
    fn an_idle_socket_stays_small() {
        assert!(size_of::<Opened>() <= 512, "{} bytes", size_of::<Opened>());
    }
}
