//! A client's WebSocket, whichever HTTP it comes over: the upgrade of HTTP/1.1 (RFC 6455), or HTTP/2's extended CONNECT
//! (RFC 8441). Once adopted, both are a GET; a plane takes its handshake, answers it, and gets a socket.

use super::{
    body::Body,
    connection::{Connection, Hold},
    headers::connection_has,
    problem::{Code, Problem},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::{
    ext::Protocol,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep, timeout},
};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_util::either::Either;

/// A reset by the client is told to those who write, and looks to those who read like an end: at an end, writing is
/// looked at, and once more after this time, for who reads may be told first.
const RESET: Duration = Duration::from_millis(5);
/// A write is copied whole, and some of them may wait for a client that does not read.
const WRITE: usize = 16 << 10;

/// Marks a request that was an extended CONNECT; its connection is in use for as long as the WebSocket is.
#[derive(Clone)]
struct Adopted(Arc<Hold>);

/// Makes a GET of an extended CONNECT that asks for a WebSocket. Other protocols stay a CONNECT.
pub fn adopt<B>(request: &mut Request<B>, connection: &Arc<Connection>) {
    let protocol = request.extensions().get::<Protocol>();
    let asked = protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"));
    if asked && request.method() == Method::CONNECT {
        *request.method_mut() = Method::GET;
        request.extensions_mut().insert(Adopted(Arc::new(connection.hold())));
    }
}

/// Whether a request was an extended CONNECT. Any answer of 2xx opens it, so none but a WebSocket's may be given.
pub fn is_adopted<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Adopted>().is_some()
}

/// Whether a request asks for a WebSocket.
pub fn is_asked<B>(request: &Request<B>) -> bool {
    if request.version() == Version::HTTP_2 {
        return is_adopted(request);
    }
    let headers = request.headers();
    let asked = headers.get(header::UPGRADE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"));
    asked && request.version() == Version::HTTP_11 && connection_has(headers, b"upgrade")
}

/// Writes the headers by which HTTP/1.1 asks for a WebSocket, and grants it.
pub fn upgrade(mut out: impl FnMut(HeaderName, HeaderValue)) {
    out(header::CONNECTION, HeaderValue::from_static("upgrade"));
    out(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// A handshake, taken out of its request.
pub struct Handshake {
    upgrade: OnUpgrade,
    /// None over HTTP/1.1.
    adopted: Option<Adopted>,
}

/// The client's end: what HTTP/1.1 leaves of the connection, or a stream of HTTP/2.
pub type Socket = Either<TokioIo<Upgraded>, StreamSocket>;

impl Handshake {
    /// Of a request that asks for a WebSocket.
    pub fn take<B>(request: &mut Request<B>) -> Self {
        let adopted = request.extensions_mut().remove();
        Self { upgrade: hyper::upgrade::on(request), adopted }
    }

    /// The answer to the client's key (RFC 6455, section 4.2.2). HTTP/2 has no keys (RFC 8441, section 5).
    pub fn accept(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Problem> {
        let refuse = |detail| Problem::new(Code::InvalidArgument, detail);
        let one = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes);
        if one(header::SEC_WEBSOCKET_VERSION) != Some(b"13") {
            return Err(refuse("Expected Sec-WebSocket-Version: 13."));
        }
        if self.adopted.is_some() {
            return Ok(None);
        }
        let key = one(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24 && key.ends_with(b"=="));
        let key = key.ok_or_else(|| refuse("Expected a Sec-WebSocket-Key of 16 bytes in base64."))?;
        let accept = HeaderValue::try_from(derive_accept_key(key));
        accept.map(Some).map_err(|_| refuse("Sec-WebSocket-Key is not valid."))
    }

    /// Gives the next hop, which speaks HTTP/1.1, a key where the client has none; returns what that hop must answer.
    pub fn rekey(&self, headers: &mut HeaderMap) -> Option<String> {
        self.adopted.as_ref()?;
        let key = generate_key();
        let accept = derive_accept_key(key.as_bytes());
        headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::try_from(key).ok()?);
        Some(accept)
    }

    /// The answer that opens the WebSocket, with these headers.
    pub fn grant(&self, mut headers: HeaderMap) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        if self.adopted.is_none() {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            upgrade(|name, value| drop(headers.insert(name, value)));
        } else {
            headers.remove(header::SEC_WEBSOCKET_ACCEPT);
        }
        *response.headers_mut() = headers;
        response
    }

    /// The socket, as soon as the answer has left.
    pub async fn socket(self, within: Duration) -> Option<Socket> {
        let upgraded = TokioIo::new(timeout(within, self.upgrade).await.ok()?.ok()?);
        Some(match self.adopted {
            None => Either::Left(upgraded),
            Some(Adopted(hold)) => Either::Right(StreamSocket { io: upgraded, ending: None, _hold: hold }),
        })
    }
}

/// A stream of HTTP/2 that carries a WebSocket. Dropped, it ends.
pub struct StreamSocket {
    io: TokioIo<Upgraded>,
    /// Set once the client has ended its side.
    ending: Option<Pin<Box<Sleep>>>,
    _hold: Arc<Hold>,
}

impl AsyncRead for StreamSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ending.is_none() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
            if buffer.filled().len() > before || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        if let Poll::Ready(Err(reset)) = Pin::new(&mut self.io).poll_flush(cx) {
            return Poll::Ready(Err(reset));
        }
        self.ending.get_or_insert_with(|| Box::pin(sleep(RESET))).as_mut().poll(cx).map(Ok)
    }
}

impl AsyncWrite for StreamSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, &bytes[..bytes.len().min(WRITE)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_to_websocket_asks_for_one() {
        let asked = |version, upgrade: &str, connection: &str| {
            let request = Request::get("/").version(version);
            let request = request.header("upgrade", upgrade).header("connection", connection);
            is_asked(&request.body(()).unwrap())
        };
        assert!(asked(Version::HTTP_11, "WebSocket", "keep-alive, Upgrade"));
        assert!(!asked(Version::HTTP_11, "h2c", "upgrade"));
        assert!(!asked(Version::HTTP_11, "websocket", "close"));
        assert!(!asked(Version::HTTP_10, "websocket", "upgrade"));
        assert!(!asked(Version::HTTP_2, "websocket", "upgrade"), "HTTP/2 has no upgrades");
    }
}
