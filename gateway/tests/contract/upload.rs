//! Raw content in both directions: `google.api.HttpBody` as the HTTP body that it stands for.

use crate::lab;
use crate::lab::{Seen, read_text};
use crate::support;
use crate::support::{Edge, get, open, read_head, send, until, within, within_50_ms};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{sync::Arc, time::Instant};
use tokio::io::AsyncReadExt;

async fn edge(more: &str) -> (Edge, support::Upstream, Arc<Seen>) {
    let (upstream, seen) = lab::upstream().await;
    let edge = Edge::with(&lab::config(upstream.at, more), gateway::Options::default()).await;
    (edge, upstream, seen)
}

#[tokio::test]
async fn content_of_any_type_goes_up_in_pieces_and_is_not_bounded_as_a_whole() {
    let (edge, _upstream, _seen) = edge("").await;
    let request = Request::post("/v1/lab/cat.png:upload").header("content-type", "image/png");
    let answer = send(edge.at.public, request, vec![0xff; 300_000]).await.json();
    assert_eq!((&answer["text"], &answer["number"]), (&"image/png".into(), &300_000.into()));
    let pieces = answer["list"].as_array().unwrap();
    assert!(pieces[0].as_str().unwrap().starts_with("cat.png"), "the first says where");
    let size =
        |piece: &serde_json::Value| piece.as_str().unwrap().trim_start_matches("cat.png").parse::<usize>();
    assert!(pieces.iter().all(|piece| size(piece).unwrap() <= 65_536), "{pieces:?}");
}

#[tokio::test]
async fn content_of_no_bytes_still_has_a_type_and_a_place() {
    let (edge, _upstream, _seen) = edge("").await;
    let request = Request::post("/v1/lab/empty:upload").header("content-type", "text/plain");
    let answer = send(edge.at.public, request, "").await.json();
    assert_eq!(answer, serde_json::json!({"text": "text/plain", "list": ["empty0"]}));
}

#[tokio::test]
async fn one_message_of_content_comes_back_as_it_is() {
    let (edge, _upstream, _seen) = edge("").await;
    let request = Request::post("/v1/lab/x:store").header("content-type", "application/octet-stream; v=1");
    let answer = send(edge.at.public, request, &b"\0\xff\n"[..]).await;
    assert_eq!(answer.headers["content-type"], "application/octet-stream; v=1");
    assert_eq!(
        (answer.headers["x-content-type-options"].to_str().unwrap(), &answer.body[..]),
        ("nosniff", &b"\0\xff\n"[..])
    );
    let large = send(edge.at.public, Request::post("/v1/lab/x:store"), vec![0; 10_001]).await;
    assert_eq!((large.status.as_u16(), large.code().as_str()), (413, "body_too_large"));
}

#[tokio::test]
async fn a_type_that_is_none_does_not_reach_the_client() {
    let (edge, _upstream, _seen) = edge("").await;
    let answer = send(edge.at.public, Request::post("/v1/lab/bad:store"), "<script>").await;
    assert_eq!(answer.headers["content-type"], "application/octet-stream");
    assert!(!answer.headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn a_failure_may_have_content_of_its_own() {
    let (edge, _upstream, _seen) = edge("").await;
    let request = Request::post("/v1/lab/refuse:store").header("content-type", "application/json");
    let answer = send(edge.at.public, request, r#"{"error": 1}"#).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (400, &br#"{"error": 1}"#[..]));
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers["retry-after"], "3", "what else the status says still counts");
}

#[tokio::test]
async fn a_stream_of_content_goes_out_as_it_comes() {
    let (edge, _upstream, _seen) = edge("").await;
    let answer = get(edge.at.public, "/v1/lab:download?number=3").await;
    assert_eq!(answer.headers["content-type"], "text/event-stream", "as its first message says");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.body, "data: 0\n\ndata: 1\n\ndata: 2\n\n", "and nothing of the gateway's own");
    let early = get(edge.at.public, "/v1/lab:download?text=fail").await;
    assert_eq!((early.status.as_u16(), early.code().as_str()), (503, "upstream_unavailable"));
    let empty = get(edge.at.public, "/v1/lab:download").await;
    assert_eq!((empty.status.as_u16(), empty.body.len()), (200, 0));
}

#[tokio::test]
async fn content_that_fails_in_the_middle_breaks_off_on_http_1() {
    let (edge, _upstream, _seen) = edge("").await;
    let head = "GET /v1/lab:download?text=fail&number=2 HTTP/1.1\r\nhost: HOST\r\n\r\n";
    let mut stream = open(edge.at.public, head).await;
    let mut all = Vec::new();
    let _ = within(stream.read_to_end(&mut all)).await;
    let all = String::from_utf8(all).unwrap();
    assert!(all.starts_with("HTTP/1.1 200") && all.contains("data: 1\n\n"), "{all}");
    assert!(!all.ends_with("0\r\n\r\n"), "no end that a client could take for success: {all}");
}

#[tokio::test]
async fn content_that_fails_in_the_middle_is_reset_on_http_2() {
    let (edge, _upstream, _seen) = edge("").await;
    let stream = tokio::net::TcpStream::connect(edge.at.public).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{}/v1/lab:download?text=fail&number=2", edge.at.public);
    let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
    let response = within(sender.send_request(request)).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert!(within(response.into_body().collect()).await.is_err());
}

#[tokio::test]
async fn a_client_that_leaves_an_upload_cancels_it() {
    let (edge, _upstream, seen) = edge("").await;
    within_50_ms(async || {
        let (messages, cancelled) = (seen.messages(), seen.cancellations());
        let head = "POST /v1/lab/a:upload HTTP/1.1\r\nhost: HOST\r\ncontent-length: 10\r\n\r\nabc";
        let stream = open(edge.at.public, head).await;
        until(|| seen.messages() > messages).await;
        let left = Instant::now();
        drop(stream);
        until(|| seen.cancellations() > cancelled).await;
        seen.cancelled_after(left)
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_a_download_cancels_it() {
    let (edge, _upstream, seen) = edge("").await;
    within_50_ms(async || {
        let cancelled = seen.cancellations();
        let head = "GET /v1/lab:download?text=silent&number=1 HTTP/1.1\r\nhost: HOST\r\n\r\n";
        let mut stream = open(edge.at.public, head).await;
        read_head(&mut stream).await;
        read_text(&mut stream, "data: 0").await;
        let left = Instant::now();
        drop(stream);
        until(|| seen.cancellations() > cancelled).await;
        seen.cancelled_after(left)
    })
    .await;
}
