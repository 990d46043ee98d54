//! Fixtures: a gateway and tiny upstreams on port 0, both stopped when they are dropped, and clients for them.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)] // Every test program uses its own part.

pub mod http2;

use bytes::Bytes;
use gateway::{Addresses, Gateway, Options, config, identity::DevIssuer};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible, future::Future, net::SocketAddr, path::Path, path::PathBuf, sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub const SECRET: &str = "external-external-external-external";
pub const WEB_SECRET: &str = "web-web-web-web-web-web-web-web-web";
pub const AI_SECRET: &str = "ai-ai-ai-ai-ai-ai-ai-ai-ai-ai-ai-ai";

/// A running gateway.
pub struct Edge {
    pub at: Addresses,
    pub gateway: Gateway,
    /// The configuration's file; empty without one.
    pub file: PathBuf,
}

impl Edge {
    /// A gateway with this configuration in front of `upstream`, called `web`.
    pub async fn start(upstream: SocketAddr, more: &str) -> Self {
        Self::with(&base(upstream, more), Options::default()).await
    }

    pub async fn with(text: &str, options: Options) -> Self {
        let config = parse(text);
        let file = options.source.clone().unwrap_or_default();
        let gateway = Gateway::start(config, options).await.unwrap();
        Self { at: gateway.addresses(), gateway, file }
    }
}

pub fn parse(text: &str) -> config::Config {
    config::parse(text, Path::new("."), &config::Environment::new()).unwrap()
}

/// Port 0 everywhere, no logs, one upstream with the routes `/open` (public) and `/mine` (scope notes).
pub fn base(upstream: SocketAddr, more: &str) -> String {
    format!(
        "[listen]\npublic = \"127.0.0.1:0\"\ninternal = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         [log]\naccess = false\n\
         [identity]\nhs256_secret = \"{SECRET}\"\n\
         [upstreams.web]\nprotocol = \"http\"\naddress = \"{upstream}\"\nsecret = \"{WEB_SECRET}\"\n\
         [routes.open]\npath = \"/open\"\nupstream = \"web\"\naccess = \"public\"\nwebsocket = true\n\
         [routes.mine]\npath = \"/mine\"\nupstream = \"web\"\naccess = \"authenticated\"\nscopes = [\"notes\"]\nquery_token = true\n\
         [routes.inner]\npath = \"/inner\"\nupstream = \"web\"\naccess = \"internal\"\n\
         {more}\n"
    )
}

/// A user's token.
pub fn token(sub: &str, scope: &str) -> String {
    let identity = config::Identity::default();
    DevIssuer::new(&identity, SECRET.as_bytes()).token(sub, scope, Duration::from_secs(60)).unwrap()
}

pub type Content = BoxBody<Bytes, Infallible>;

/// An upstream; its task ends with it.
pub struct Upstream {
    pub at: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An HTTP upstream.
pub async fn http<F, R>(handle: F) -> Upstream
where
    F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<Content>> + Send + 'static,
{
    let handle = Arc::new(handle);
    raw(move |stream| {
        let handle = Arc::clone(&handle);
        async move {
            let service = service_fn(|request| {
                let answer = handle(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await
}

/// An upstream that does with each connection what `handle` says.
pub async fn raw<F, R>(handle: F) -> Upstream
where
    F: Fn(TcpStream) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        // Dropped with the listener's task, so that no connection outlives its test.
        let mut connections = tokio::task::JoinSet::new();
        let handle = Arc::new(handle);
        while let Ok((stream, _)) = listener.accept().await {
            let handle = Arc::clone(&handle);
            stream.set_nodelay(true).unwrap();
            connections.spawn(async move {
                // A health check connects and says nothing.
                if stream.peek(&mut [0]).await.is_ok_and(|n| n > 0) {
                    handle(stream).await;
                }
            });
        }
    });
    Upstream { at, task }
}

/// An upstream that answers with what it was sent: method, target, headers and body, as JSON.
pub async fn echo() -> Upstream {
    http(|request: Request<Incoming>| async move {
        let (parts, body) = request.into_parts();
        let headers: serde_json::Map<_, _> = parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
            .collect();
        let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let seen = serde_json::json!({"method": parts.method.as_str(), "target": parts.uri.to_string(),
            "headers": headers, "body": String::from_utf8_lossy(&body)});
        Response::builder()
            .header("content-type", "application/json")
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("x-hybrid-inner", "1")
            .header("server-timing", "db;dur=1")
            .body(full(seen.to_string()))
            .unwrap()
    })
    .await
}

pub fn full(content: impl Into<Bytes>) -> Content {
    Full::new(content.into()).boxed()
}

/// An address where nobody listens.
pub async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{} {:?} is not JSON", self.status, self.body))
    }

    /// The problem's code, after checking that it is a problem document.
    pub fn code(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{:?}", self.body);
        let json = self.json();
        assert_eq!(json["status"], self.status.as_u16());
        assert_eq!(json["request_id"], self.headers["x-request-id"].to_str().unwrap());
        json["code"].as_str().unwrap().to_owned()
    }
}

/// Sends one request on a connection of its own; `host` is filled in.
pub async fn send(to: SocketAddr, request: http::request::Builder, body: impl Into<Bytes>) -> Answer {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut request = request.body(Full::new(body.into())).unwrap();
    if !request.headers().contains_key("host") {
        request.headers_mut().insert("host", to.to_string().parse().unwrap());
    }
    let response = sender.send_request(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    driver.abort();
    Answer { status: parts.status, headers: parts.headers, body }
}

pub async fn get(to: SocketAddr, path: &str) -> Answer {
    send(to, Request::get(path), "").await
}

pub async fn get_as(to: SocketAddr, path: &str, token: &str) -> Answer {
    send(to, Request::get(path).header("authorization", format!("Bearer {token}")), "").await
}

/// Opens a socket and writes `text`, with `HOST` replaced.
pub async fn open(to: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(text.replace("HOST", &to.to_string()).as_bytes()).await.unwrap();
    stream
}

/// Reads until `end` was seen; panics when the other side ends first.
pub async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        let read = within(stream.read(&mut byte)).await.unwrap();
        assert_ne!(read, 0, "ended after {:?}", String::from_utf8_lossy(&text));
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

/// Reads the request's or response's head.
pub async fn read_head(stream: &mut TcpStream) -> String {
    read_until(stream, "\r\n\r\n").await
}

/// Fails a test that hangs.
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), what).await.expect("nothing happened for 10 s")
}

/// Fails unless what is measured takes less than 50 ms. Up to five times: a busy machine can only add to it.
pub async fn within_50_ms(mut measure: impl AsyncFnMut() -> Duration) {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        best = best.min(measure().await);
        if best < Duration::from_millis(50) {
            return;
        }
    }
    panic!("{best:?} at best");
}

/// Waits until `done` holds.
pub async fn until(mut done: impl FnMut() -> bool) {
    within(async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
