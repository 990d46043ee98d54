//! Clients of the protocols over HTTP: requests whose body is sent as the test goes on, over HTTP/1.1 and HTTP/2.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)] // Every test file uses its own part.

use crate::{
    lab::{self, Sample, Seen},
    support::{self, Edge, Upstream, within},
};
use bytes::{Buf, Bytes};
use futures_util::stream;
use http::{HeaderMap, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, rt::Executor};
use hyper_util::rt::TokioIo;
use prost::Message;
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::{net::TcpStream, sync::mpsc, task::JoinSet};

pub type Content = BoxBody<Bytes, Infallible>;
pub const BOTH: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

pub async fn edge(more: &str) -> (Edge, Upstream, Arc<Seen>) {
    let (upstream, seen) = lab::upstream().await;
    let edge = Edge::with(&lab::config(upstream.at, more), gateway::Options::default()).await;
    (edge, upstream, seen)
}

/// A connection; closed when it is dropped, whatever is on its way.
pub struct Client {
    to: SocketAddr,
    version: Version,
    tasks: Tasks,
}

/// What hyper spawns for the connection, so that it ends with it.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.lock().unwrap().spawn(async move { drop(task.await) });
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.tasks.0.lock().unwrap().abort_all();
    }
}

impl Client {
    pub fn new(to: SocketAddr, version: Version) -> Self {
        Self { to, version, tasks: Tasks::default() }
    }

    /// Sends a request whose URI is a path; the response's head is there.
    pub async fn send(&mut self, request: http::request::Builder, body: Content) -> Response<Incoming> {
        let stream = TcpStream::connect(self.to).await.unwrap();
        self.send_over(stream, request, body).await
    }

    pub async fn send_over(
        &mut self,
        stream: TcpStream,
        request: http::request::Builder,
        body: Content,
    ) -> Response<Incoming> {
        stream.set_nodelay(true).unwrap();
        let io = TokioIo::new(stream);
        let mut request = request.body(body).unwrap();
        if self.version == Version::HTTP_2 {
            *request.uri_mut() = format!("http://{}{}", self.to, request.uri()).parse().unwrap();
            let builder = hyper::client::conn::http2::Builder::new(self.tasks.clone());
            let (mut sender, connection) = builder.handshake(io).await.unwrap();
            self.tasks.execute(connection);
            return within(sender.send_request(request)).await.unwrap();
        }
        request.headers_mut().insert("host", self.to.to_string().parse().unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        self.tasks.execute(connection);
        within(sender.send_request(request)).await.unwrap()
    }
}

/// A whole response.
pub async fn whole(
    to: SocketAddr,
    version: Version,
    request: http::request::Builder,
    body: Content,
) -> Whole {
    let mut client = Client::new(to, version);
    let (head, body) = client.send(request, body).await.into_parts();
    let body = within(body.collect()).await.unwrap().to_bytes();
    Whole { status: head.status.as_u16(), headers: head.headers, body }
}

pub struct Whole {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Whole {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{} {:?}", self.status, self.body))
    }
}

pub fn full(content: impl Into<Bytes>) -> Content {
    Full::new(content.into()).boxed()
}

/// A body in these pieces.
pub fn pieces(content: &[u8], size: usize) -> Content {
    let pieces: Vec<_> =
        content.chunks(size).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
    BodyExt::boxed(StreamBody::new(stream::iter(pieces)))
}

/// A body that is sent as the test goes on.
pub fn sending() -> (mpsc::UnboundedSender<Bytes>, Content) {
    let (sender, receiver) = mpsc::unbounded_channel::<Bytes>();
    let received = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes| (Ok(Frame::data(bytes)), receiver))
    });
    (sender, BodyExt::boxed(StreamBody::new(received)))
}

/// A body without end, and how many pieces of it were taken.
pub fn endless(piece: Bytes) -> (Arc<AtomicUsize>, Content) {
    let taken = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&taken);
    let pieces = stream::repeat_with(move || {
        counter.fetch_add(1, Relaxed);
        Ok(Frame::data(piece.clone()))
    });
    (taken, BodyExt::boxed(StreamBody::new(pieces)))
}

pub fn sample(text: &str, number: i32) -> Sample {
    Sample { text: text.into(), number, list: vec![] }
}

pub fn framed(text: &str, number: i32) -> Bytes {
    lab::frame(&sample(text, number).encode_to_vec())
}

/// The frames of a body: flags and content. Panics where it ends inside one.
pub fn frames(body: &Bytes) -> Vec<(u8, Bytes)> {
    let mut body = body.clone();
    let mut frames = vec![];
    while !body.is_empty() {
        let flags = body.get_u8();
        let length = body.get_u32() as usize;
        frames.push((flags, body.split_to(length)));
    }
    frames
}

/// Reads data until `done` says that it is enough.
pub async fn read_until(body: &mut Incoming, done: impl Fn(&[u8]) -> bool) -> Bytes {
    let mut read = vec![];
    while !done(&read) {
        let frame = within(body.frame()).await.expect("more is to come").unwrap();
        read.extend_from_slice(&frame.into_data().unwrap());
    }
    read.into()
}

/// Waits until a counter stands still.
pub async fn settled(counter: &AtomicUsize) -> usize {
    let mut last = usize::MAX;
    within(async {
        loop {
            let now = counter.load(Relaxed);
            if now == last && now > 0 {
                return now;
            }
            last = now;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    })
    .await
}

/// A connection with a small window, whose owner does not read.
pub async fn narrow(to: SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.connect(to).await.unwrap()
}

pub fn bearer(scope: &str) -> String {
    format!("Bearer {}", support::token("alice", scope))
}

pub fn post(path: &str) -> http::request::Builder {
    Request::post(path)
}
