//! A gRPC upstream for the contract `lab.v1`, written on hyper alone so that it can misbehave, and a gateway in front.
#![allow(dead_code, unreachable_pub)] // Every test file uses its own part.
#![allow(clippy::unwrap_used)] // A panic is a test's failure.

pub mod odd;
pub mod sockets;
pub mod streams;

use crate::support::{self, AI_SECRET, SECRET, Upstream};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use transcode::{Violation, status::Code, status::Details};

/// `lab.v1.Sample`.
#[derive(Clone, PartialEq, Message)]
pub struct Sample {
    #[prost(string, tag = "1")]
    pub text: String,
    #[prost(int32, tag = "2")]
    pub number: i32,
    #[prost(string, repeated, tag = "3")]
    pub list: Vec<String>,
}

/// What the upstream saw.
#[derive(Default)]
pub struct Seen {
    heads: Mutex<Vec<HeaderMap>>,
    cancelled: Mutex<Vec<Instant>>,
    /// Messages of a flood that were taken.
    pub produced: std::sync::atomic::AtomicUsize,
    messages: AtomicUsize,
    sent: AtomicUsize,
}

impl Seen {
    /// The headers of the last call.
    pub fn last(&self) -> HeaderMap {
        self.heads.lock().unwrap().last().cloned().expect("the upstream was called")
    }

    pub fn calls(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    /// Whether a call had this header.
    pub fn had(&self, name: &str, value: &str) -> bool {
        self.heads.lock().unwrap().iter().any(|head| head.get(name).is_some_and(|found| found == value))
    }

    /// How many messages of request streams the upstream has read.
    pub fn messages(&self) -> usize {
        self.messages.load(Relaxed)
    }

    fn read(&self) {
        self.messages.fetch_add(1, Relaxed);
    }

    /// Bytes of streamed answers.
    pub fn sent(&self) -> usize {
        self.sent.load(Relaxed)
    }

    /// Waits until nothing more is sent: whoever should be held back is.
    pub async fn settled(&self) {
        support::within(async {
            loop {
                let before = self.sent();
                tokio::time::sleep(Duration::from_millis(100)).await;
                if self.sent() < before + 10_000 {
                    return;
                }
            }
        })
        .await;
    }

    /// How long after `moment` the last call was cancelled.
    pub fn cancelled_after(&self, moment: Instant) -> Duration {
        self.cancelled.lock().unwrap().last().unwrap().saturating_duration_since(moment)
    }

    pub fn cancellations(&self) -> usize {
        self.cancelled.lock().unwrap().len()
    }

    /// When the first call was cancelled.
    pub fn cancelled(&self) -> Option<Instant> {
        self.cancelled.lock().unwrap().first().copied()
    }
}

/// Dropped before it is disarmed, it is a cancellation.
struct Cancellation(Option<Arc<Seen>>);

impl Cancellation {
    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Cancellation {
    fn drop(&mut self) {
        if let Some(seen) = self.0.take() {
            seen.cancelled.lock().unwrap().push(Instant::now());
        }
    }
}

type Content = BoxBody<Bytes, Infallible>;

/// The upstream, and what it saw.
pub async fn upstream() -> (Upstream, Arc<Seen>) {
    let seen = Arc::<Seen>::default();
    let shared = Arc::clone(&seen);
    let upstream = support::raw(move |stream| {
        let seen = Arc::clone(&shared);
        async move {
            let service = service_fn(|request| {
                let seen = Arc::clone(&seen);
                async move { Ok::<_, Infallible>(answer(request, seen).await) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    (upstream, seen)
}

async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> Response<Content> {
    let (head, body) = request.into_parts();
    if !head.uri.path().starts_with("/lab.v1.") {
        // The gateway's health checks.
        let mut response = response(Empty::new().boxed());
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("12"));
        return response;
    }
    seen.heads.lock().unwrap().push(head.headers.clone());
    if let Some(method) = head.uri.path().strip_prefix("/lab.v1.StreamService/") {
        return streams::answer(method, body, seen).await;
    }
    if head.uri.path().ends_with("/Converse") {
        use futures_util::StreamExt;
        // A broken stream is not ended by us.
        let echoed = body.into_data_stream().then(|data| async {
            match data {
                Ok(data) => Ok(data),
                Err(_) => pending().await,
            }
        });
        return response(stream_of(echoed, seen));
    }
    if head.uri.path().ends_with("/Stall") {
        let _cancellation = Cancellation(Some(seen));
        return pending().await;
    }
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if let Some(odd) = odd::answer(head.uri.path(), &body, &seen) {
        return odd;
    }
    let sample = Sample::decode(body.get(5..).unwrap_or_default()).unwrap();
    let streaming = head.uri.path().ends_with("/Watch") || head.uri.path().ends_with("/Mine");
    match sample.text.as_str() {
        "hang" => {
            let _cancellation = Cancellation(Some(seen));
            pending().await
        }
        "refuse" => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            refuse()
        }
        _ if streaming => response(events(sample, seen)),
        "timed" => {
            let mut timed = trailers("0");
            timed.insert("server-timing", HeaderValue::from_static("inference;dur=9.5"));
            let frames = [Frame::data(frame(&sample.encode_to_vec())), Frame::trailers(timed)];
            response(StreamBody::new(stream::iter(frames.map(Ok))).boxed())
        }
        "garbage" => response(whole(vec![frame(b"\x0a\xff")])),
        _ => response(whole(vec![frame(&sample.encode_to_vec())])),
    }
}

fn response(body: Content) -> Response<Content> {
    let response = Response::builder().header("content-type", "application/grpc");
    response.header("server-timing", "inference;dur=1.5").body(body).unwrap()
}

/// A status with details, before any message.
fn refuse() -> Response<Content> {
    refuse_with(None)
}

/// The same, with content of its own.
fn refuse_with(content: Option<transcode::HttpBody>) -> Response<Content> {
    let details = Details {
        content,
        violations: vec![Violation { field: "list[0]".into(), description: "is empty".into() }],
        retry_delay: Some(Duration::from_millis(2500)),
        reason: None,
    };
    let mut response = response(Empty::new().boxed());
    let headers = response.headers_mut();
    headers.insert("grpc-status", HeaderValue::from_static("3"));
    headers.insert("grpc-message", HeaderValue::from_static("not%20good"));
    let details = details.to_trailer(Code::InvalidArgument, "not good");
    headers.insert("grpc-status-details-bin", details.parse().unwrap());
    response
}

/// `number` messages; then what `text` says: an end, a failure, silence, or more of them every 5 ms.
fn events(sample: Sample, seen: Arc<Seen>) -> Content {
    let cancellation = Cancellation(Some(Arc::clone(&seen)));
    let body = stream::unfold((0, sample, cancellation), |(index, sample, mut cancellation)| async move {
        let message = || Frame::data(frame(&Sample { number: index, ..sample.clone() }.encode_to_vec()));
        let next = if index < sample.number {
            message()
        } else {
            match sample.text.as_str() {
                "silent" => pending().await,
                "endless" => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    message()
                }
                _ if index > sample.number => return None,
                text => {
                    cancellation.disarm();
                    Frame::trailers(trailers(if text == "fail" { "14" } else { "0" }))
                }
            }
        };
        Some((Ok(next), (index + 1, sample, cancellation)))
    });
    let counted = move |frame: &Result<Frame<Bytes>, Infallible>| {
        let size = frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
        seen.sent.fetch_add(size, Relaxed);
    };
    StreamBody::new(futures_util::StreamExt::inspect(body, counted)).boxed()
}

fn whole(frames: Vec<Bytes>) -> Content {
    let frames = frames.into_iter().map(Frame::data).chain([Frame::trailers(trailers("0"))]).map(Ok);
    StreamBody::new(stream::iter(frames.collect::<Vec<_>>())).boxed()
}

fn stream_of(
    data: impl futures_util::Stream<Item = Result<Bytes, Infallible>> + Send + Sync + 'static,
    seen: Arc<Seen>,
) -> Content {
    use futures_util::StreamExt;
    let mut cancellation = Cancellation(Some(seen));
    let end = stream::once(async move {
        cancellation.disarm();
        Ok(Frame::trailers(trailers("0")))
    });
    BodyExt::boxed(StreamBody::new(data.map(|data| data.map(Frame::data)).chain(end)))
}

fn trailers(status: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    trailers.insert("x-counted", HeaderValue::from_static("yes"));
    trailers
}

/// A length-prefixed message.
pub fn frame(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, message].concat().into()
}

/// The messages of a gRPC body.
pub fn messages(body: &Bytes) -> Vec<Sample> {
    let mut body = body.clone();
    let mut messages = vec![];
    while body.len() >= 5 {
        body.advance(1);
        let length = body.get_u32() as usize;
        messages.push(Sample::decode(body.split_to(length)).unwrap());
    }
    messages
}

/// The folder of the test contract.
pub fn contracts() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/contracts").display().to_string()
}

/// A configuration in front of `upstream`; `more` goes into `[contracts]`.
pub fn config(upstream: SocketAddr, more: &str) -> String {
    config_of(&contracts(), upstream, more)
}

pub fn config_of(folder: &str, upstream: SocketAddr, more: &str) -> String {
    format!(
        "[listen]\npublic = \"127.0.0.1:0\"\ninternal = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         [log]\naccess = false\n\
         [identity]\nhs256_secret = \"{SECRET}\"\n\
         [limits]\nbody_bytes = 10000\n\
         [upstreams.ai]\nprotocol = \"grpc\"\naddress = \"{upstream}\"\nsecret = \"{AI_SECRET}\"\nhealth_interval = \"1h\"\n\
         [contracts]\npaths = [\"{folder}\"]\npackages = {{ \"lab.v1\" = \"ai\" }}\n{more}\n"
    )
}

/// A service's own token for the internal listener.
pub fn service_token() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = serde_json::json!({"iss": "ai", "aud": "hybrid-gateway", "iat": now, "exp": now + 30});
    let key = jsonwebtoken::EncodingKey::from_secret(AI_SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

/// Reads a chunked HTTP/1 body until it holds `text`; panics when it ends before.
pub async fn read_text(stream: &mut tokio::net::TcpStream, text: &str) -> String {
    use tokio::io::AsyncReadExt;
    let mut read = BytesMut::new();
    while !String::from_utf8_lossy(&read).contains(text) {
        let n = support::within(stream.read_buf(&mut read)).await.unwrap();
        assert_ne!(n, 0, "ended after {:?}", String::from_utf8_lossy(&read));
    }
    String::from_utf8_lossy(&read).into_owned()
}
