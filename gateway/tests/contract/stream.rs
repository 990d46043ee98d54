//! Server streams as event streams: how they begin, go on, fail and end, and that a client's leaving ends the work.

use crate::lab;
use crate::lab::{Seen, read_text};
use crate::support;
use crate::support::{Edge, get, open, read_head, send, token, until, within_50_ms};
use http::Request;
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

async fn edge(more: &str) -> (Edge, support::Upstream, Arc<Seen>) {
    let (upstream, seen) = lab::upstream().await;
    let edge = Edge::with(&lab::config(upstream.at, more), gateway::Options::default()).await;
    (edge, upstream, seen)
}

/// The events of a whole stream: name and data.
fn events(body: &[u8]) -> Vec<(String, Value)> {
    let text = std::str::from_utf8(body).unwrap();
    let blocks = text.split("\n\n").filter(|block| !block.is_empty() && !block.starts_with(':'));
    let event = |block: &str| {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let data = serde_json::from_str(&field("data: ").unwrap()).unwrap();
        (field("event: ").unwrap_or_else(|| "message".into()), data)
    };
    blocks.map(event).collect()
}

/// A stream that is under way: its head and first event have come.
async fn begun(edge: &Edge, query: &str) -> TcpStream {
    let mut stream =
        open(edge.at.public, &format!("GET /v1/lab:watch?{query} HTTP/1.1\r\nhost: HOST\r\n\r\n")).await;
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
    read_text(&mut stream, "data: {").await;
    stream
}

#[tokio::test]
async fn messages_become_events_and_the_end_is_one_too() {
    let (edge, _upstream, _seen) = edge("").await;
    let request = Request::post("/v1/lab:watch").header("content-type", "application/json");
    let answer = send(edge.at.public, request, r#"{"text":"t","number":3}"#).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(answer.headers["server-timing"].to_str().unwrap().ends_with("inference;dur=1.5"));
    let message = |data| ("message".to_owned(), data);
    let expected = vec![
        message(json!({"text": "t"})),
        message(json!({"text": "t", "number": 1})),
        message(json!({"text": "t", "number": 2})),
        ("end".to_owned(), json!({})),
    ];
    assert_eq!(events(&answer.body), expected);
    let empty = get(edge.at.public, "/v1/lab:watch?text=t").await;
    assert_eq!(events(&empty.body), [("end".to_owned(), json!({}))]);
}

#[tokio::test]
async fn a_failure_before_the_first_message_decides_the_status() {
    let (edge, _upstream, _seen) = edge("").await;
    let answer = get(edge.at.public, "/v1/lab:watch?text=refuse").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_argument"));
    let answer = get(edge.at.public, "/v1/lab:watch?text=fail").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "upstream_unavailable"));
    assert_eq!(answer.headers["retry-after"], "1");
    let answer = get(edge.at.public, "/v1/lab:watch?number=x").await;
    assert_eq!((answer.status.as_u16(), answer.json()["errors"][0]["field"].clone()), (400, json!("number")));
}

#[tokio::test]
async fn a_later_failure_is_an_error_event() {
    let (edge, _upstream, _seen) = edge("").await;
    let answer = get(edge.at.public, "/v1/lab:watch?text=fail&number=2").await;
    let events = events(&answer.body);
    assert_eq!((answer.status.as_u16(), events.len()), (200, 3));
    let (name, problem) = &events[2];
    assert_eq!((name.as_str(), &problem["code"]), ("error", &json!("upstream_unavailable")));
    assert_eq!(problem["request_id"], answer.headers["x-request-id"].to_str().unwrap());
}

#[tokio::test]
async fn an_upstream_killed_in_mid_stream_is_an_error_event() {
    let (edge, upstream, _seen) = edge("").await;
    let mut stream = begun(&edge, "text=silent&number=1").await;
    drop(upstream);
    let rest = read_text(&mut stream, "0\r\n\r\n").await;
    assert!(rest.contains("event: error\ndata: {") && rest.contains("\"code\":\"bad_gateway\""), "{rest}");
}

async fn cancelled_within_50_ms(query: &str, leave: impl Fn(TcpStream)) {
    within_50_ms(async || {
        let (edge, _upstream, seen) = edge("").await;
        let stream = begun(&edge, query).await;
        let left = Instant::now();
        leave(stream);
        until(|| seen.cancelled().is_some()).await;
        seen.cancelled_after(left)
    })
    .await;
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

#[tokio::test]
async fn a_client_that_leaves_by_fin_cancels_the_call() {
    cancelled_within_50_ms("text=endless&number=1", drop).await;
    cancelled_within_50_ms("text=silent&number=1", drop).await;
}

#[tokio::test]
async fn a_client_that_leaves_by_rst_cancels_the_call() {
    cancelled_within_50_ms("text=endless&number=1", reset).await;
    cancelled_within_50_ms("text=silent&number=1", reset).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_event_cancels_the_call() {
    within_50_ms(async || {
        let (edge, _upstream, seen) = edge("").await;
        let stream = open(edge.at.public, "GET /v1/lab:watch?text=hang HTTP/1.1\r\nhost: HOST\r\n\r\n").await;
        until(|| seen.calls() == 1).await;
        let left = Instant::now();
        drop(stream);
        until(|| seen.cancelled().is_some()).await;
        seen.cancelled_after(left)
    })
    .await;
}

#[tokio::test]
async fn a_silent_stream_begins_late_beats_and_is_ended() {
    let more = "first_event = \"50ms\"\nheartbeat = \"40ms\"\nstream_idle = \"300ms\"";
    let (edge, _upstream, seen) = edge(more).await;
    let started = Instant::now();
    let answer = get(edge.at.public, "/v1/lab:watch?text=hang").await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert_eq!(answer.status.as_u16(), 200);
    assert!(text.matches(": keep-alive\n\n").count() >= 3, "{text}");
    let (name, problem) = events(&answer.body).pop().unwrap();
    assert_eq!((name.as_str(), &problem["code"]), ("error", &json!("gateway_timeout")));
    assert!(started.elapsed() < Duration::from_secs(2));
    until(|| seen.cancelled().is_some()).await;
}

#[tokio::test]
async fn a_stream_that_never_rests_is_ended_at_its_age() {
    let (edge, _upstream, seen) = edge("stream_max_age = \"200ms\"").await;
    let answer = get(edge.at.public, "/v1/lab:watch?text=endless&number=1").await;
    let (name, problem) = events(&answer.body).pop().unwrap();
    assert_eq!((name.as_str(), &problem["code"]), ("error", &json!("gateway_timeout")));
    until(|| seen.cancelled().is_some()).await;
    let answer =
        send(edge.at.public, Request::get("/v1/lab:watch?text=hang").header("request-timeout", "0.1"), "")
            .await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "gateway_timeout"));
}

#[tokio::test]
async fn an_event_source_brings_its_token_in_the_query() {
    let (edge, _upstream, seen) = edge("").await;
    let token = token("alice", "");
    let answer = get(edge.at.public, &format!("/v1/lab:mine?text=t&access_token={token}")).await;
    assert_eq!(answer.status.as_u16(), 200, "{:?}", answer.body);
    assert!(seen.last().contains_key("x-hybrid-identity"));
    assert_eq!(get(edge.at.public, "/v1/lab:mine?text=t").await.code(), "unauthenticated");
    let unary = get(edge.at.public, &format!("/v1/lab/t?access_token={token}")).await;
    assert_eq!(unary.code(), "invalid_argument", "only where a browser needs it");
}

#[tokio::test]
async fn a_client_that_stops_reading_loses_the_upstreams_work() {
    let more = "stream_idle = \"300ms\"\nheartbeat = \"50ms\"";
    let (edge, _upstream, seen) = edge(more).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(edge.at.public).await.unwrap();
    let body = format!(r#"{{"text":"endless","number":200,"list":["{}"]}}"#, "x".repeat(9000));
    let head = format!(
        "POST /v1/lab:watch HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
        edge.at.public,
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    until(|| seen.cancelled().is_some()).await;
    drop(stream);
}
