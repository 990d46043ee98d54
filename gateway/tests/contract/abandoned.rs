//! Clients that leave while the upstream has answered and does not read on: it learns of that at once, however full the
//! way to it is.

use crate::{
    lab::frame,
    rpc::{Client, edge, endless, sample, settled},
    support::{until, within, within_50_ms},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Version};
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use std::time::{Duration, Instant};

/// How long after the client has left the upstream learns of it. Each message is as `write` says.
async fn cancelled_after(
    request: impl Fn() -> http::request::Builder,
    write: impl Fn(&str) -> Bytes,
) -> Duration {
    let (edge, _upstream, seen) = edge("").await;
    let mut client = Client::new(edge.at.public, Version::HTTP_2);
    let (sent, rest) = endless(write(&"x".repeat(5000)));
    let begin =
        stream::iter([write("first"), write("ignore")]).map(|bytes| Ok(http_body::Frame::data(bytes)));
    let body = BodyExt::boxed(StreamBody::new(
        begin.chain(rest.into_data_stream().map(|data| data.map(http_body::Frame::data))),
    ));
    let mut response = client.send(request(), body).await;
    assert_eq!(response.status().as_u16(), 200);
    let echoed = within(response.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap();
    assert!(echoed.windows(5).any(|window| window == b"first"), "{echoed:?}");
    settled(&sent).await;
    assert_eq!(seen.cancellations(), 0);
    let left = Instant::now();
    drop((response, client));
    until(|| seen.cancellations() == 1).await;
    seen.cancelled_after(left)
}

#[tokio::test]
async fn a_full_stream_of_native_grpc_is_reset_within_50_ms() {
    let request = || {
        Request::post("/lab.v1.StreamService/Converse")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
    };
    let write = |text: &str| frame(&sample(text, 0).encode_to_vec());
    within_50_ms(async || cancelled_after(request, write).await).await;
}

#[tokio::test]
async fn a_full_stream_of_lines_is_reset_within_50_ms() {
    let request = || {
        Request::post("/v1/lab:converse")
            .header("content-type", "application/x-ndjson")
            .header("accept", "application/x-ndjson")
    };
    let write = |text: &str| Bytes::from(format!("{{\"text\":\"{text}\"}}\n"));
    within_50_ms(async || cancelled_after(request, write).await).await;
}

#[tokio::test]
async fn a_full_stream_of_connect_is_reset_within_50_ms() {
    let request = || {
        Request::post("/lab.v1.StreamService/Converse").header("content-type", "application/connect+proto")
    };
    let write = |text: &str| frame(&sample(text, 0).encode_to_vec());
    within_50_ms(async || cancelled_after(request, write).await).await;
}
