//! A fast gRPC upstream for the benchmarks: knows two methods by their last name and no contract.
//! It does the least that gRPC asks for, so that the gateway is what is measured.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming},
    header::{HeaderMap, HeaderValue},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// A `Token` with a text of 45 bytes and an index of two, in its frame: 50 bytes of message.
const TOKEN: &[u8] = b"\0\0\0\0\x32\x0a\x2d a token of a model's answer, forty-five byte\x10\xa1\x03";

/// Serves until killed.
pub(super) async fn serve() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    super::helper::say(&serde_json::json!({"port": listener.local_addr()?.port()}))?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(10_000)
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        tokio::spawn(connection);
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let streaming = request.uri().path().ends_with("/Stream");
    // A health check is answered as well: it takes anything that is no message for an answer.
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut response = Response::new(if streaming {
        Tokens::new(&body).boxed()
    } else {
        Full::new(body).with_trailers(async { Some(Ok(ok())) }).boxed()
    });
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

fn ok() -> HeaderMap {
    HeaderMap::from_iter([(http_name("grpc-status"), HeaderValue::from_static("0"))])
}

fn http_name(name: &'static str) -> hyper::header::HeaderName {
    hyper::header::HeaderName::from_static(name)
}

/// Tokens, each in a DATA frame of its own, as model servers send them.
struct Tokens {
    left: u64,
    pause: Option<Interval>,
    ended: bool,
}

impl Tokens {
    /// From a `StreamRequest{count = 1, pause_ms = 2}` in its frame, both varints.
    fn new(request: &[u8]) -> Self {
        let (mut count, mut pause) = (0, 0);
        let mut message = request.get(5..).unwrap_or_default();
        while let Ok((number, _)) = prost::encoding::decode_key(&mut message) {
            let value = prost::encoding::decode_varint(&mut message).unwrap_or_default();
            *(if number == 1 { &mut count } else { &mut pause }) = value;
        }
        let pause = (pause > 0).then(|| {
            let mut interval = interval(Duration::from_millis(pause));
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        Self { left: if count == 0 { u64::MAX } else { count }, pause, ended: false }
    }
}

impl Body for Tokens {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.left == 0 {
            self.ended = true;
            return Poll::Ready(Some(Ok(Frame::trailers(ok()))));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.poll_tick(cx));
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(TOKEN)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_fifty_bytes_in_its_frame() {
        assert_eq!(TOKEN.len(), 5 + 50);
        assert_eq!(TOKEN[4..7], [50, 0x0a, 45]);
    }

    #[test]
    fn the_request_says_how_many_and_how_fast() {
        let tokens = Tokens::new(b"\0\0\0\0\x04\x08\x07\x10\x00");
        assert_eq!((tokens.left, tokens.pause.is_none()), (7, true));
        assert_eq!(Tokens::new(b"\0\0\0\0\0").left, u64::MAX);
    }
}
