//! Streaming methods over WebSockets of HTTP/2: the same frames, and the same ends.

use crate::lab;
use crate::lab::Seen;
use crate::lab::sockets::{closed, hear, hear_json, say};
use crate::support::{
    self, Edge,
    http2::{ByHand, Client},
    token, until, within, within_50_ms,
};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

async fn edge(more: &str) -> (Edge, support::Upstream, Arc<Seen>) {
    let (upstream, seen) = lab::upstream().await;
    let edge = Edge::with(&lab::config(upstream.at, more), gateway::Options::default()).await;
    (edge, upstream, seen)
}

async fn open(client: &mut Client, path: &str) -> Socket {
    WebSocketStream::from_raw_socket(client.open(path, &[]).await, Role::Client, None).await
}

#[tokio::test]
async fn sockets_share_a_connection_and_each_goes_both_ways() {
    let (edge, _upstream, seen) = edge("").await;
    let mut client = Client::new(edge.at.public).await;
    let mut sockets =
        [open(&mut client, "/v1/lab:converse").await, open(&mut client, "/v1/lab:converse").await];
    for number in 1..=3 {
        for socket in &mut sockets {
            say(socket, &format!("{{\"number\":{number}}}")).await;
            assert_eq!(hear_json(socket).await, json!({"number": number}));
        }
    }
    assert_eq!((client.get("/v1/lab/x").await.status().as_u16(), seen.calls()), (200, 3));
    for socket in &mut sockets {
        say(socket, "").await;
        assert_eq!(closed(socket).await, 1000);
        assert!(within(socket.next()).await.is_none(), "and then the stream ends");
    }
}

#[tokio::test]
async fn path_query_token_and_subprotocol_mean_the_same() {
    let (edge, _upstream, seen) = edge("").await;
    let mut client = Client::new(edge.at.public).await;
    let token = token("alice", "");
    let path = format!("/v1/lab:mine?text=t&number=1&access_token={token}");
    let answer = client.ask(&path, &[("sec-websocket-protocol", "other, hybrid.json")]).await;
    assert_eq!(answer.headers()["sec-websocket-protocol"], "hybrid.json");
    for hop in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!answer.headers().contains_key(hop), "{hop} is HTTP/1.1's");
    }
    let io = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    assert_eq!(hear_json(&mut socket).await, json!({"text": "t"}));
    assert!(seen.last().contains_key("x-hybrid-identity"));
}

#[tokio::test]
async fn what_is_wrong_before_is_an_ordinary_problem() {
    let (edge, _upstream, seen) = edge("").await;
    let mut client = Client::new(edge.at.public).await;
    for (path, headers, status) in [
        ("/v1/lab:mine?text=t", &[][..], 401),
        ("/v1/lab:watch?number=x", &[], 400),
        ("/v1/lab:watch?text=t", &[("sec-websocket-version", "8")], 400),
        ("/v1/lab/x", &[], 501),
        ("/v1/lab:echo", &[], 405),
        ("/v1/nothing", &[], 404),
    ] {
        let answer = client.ask(path, headers).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let body = within(answer.into_body().collect()).await.unwrap().to_bytes();
        assert!(body.starts_with(b"{"), "{body:?}");
    }
    assert_eq!(seen.calls(), 0);
}

#[tokio::test]
async fn a_stream_that_is_dropped_cancels_the_call() {
    let (edge, _upstream, seen) = edge("").await;
    let mut client = Client::new(edge.at.public).await;
    within_50_ms(async || {
        let before = seen.cancellations();
        let mut socket = open(&mut client, "/v1/lab:watch?text=silent&number=1").await;
        hear(&mut socket).await;
        let left = Instant::now();
        drop(socket);
        until(|| seen.cancellations() > before).await;
        seen.cancelled_after(left)
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_reset_cancels_the_call() {
    let (edge, _upstream, seen) = edge("").await;
    within_50_ms(async || {
        let before = seen.cancellations();
        let mut socket = ByHand::open(edge.at.public, "/v1/lab:watch?text=silent&number=1").await;
        socket.receive().await;
        let left = Instant::now();
        socket.reset().await;
        until(|| seen.cancellations() > before).await;
        seen.cancelled_after(left)
    })
    .await;
}

#[tokio::test]
async fn silence_ends_it_with_its_code() {
    let (edge, _upstream, _seen) = edge("stream_idle = \"250ms\"").await;
    let mut client = Client::new(edge.at.public).await;
    let mut silent = open(&mut client, "/v1/lab:converse").await;
    assert_eq!(hear_json(&mut silent).await["error"]["code"], "gateway_timeout");
    assert_eq!(closed(&mut silent).await, 4504);
    assert_eq!(client.get("/v1/lab/x").await.status().as_u16(), 200, "and not its connection");
}

#[tokio::test]
async fn a_drain_closes_it_with_1001_within_its_bound() {
    let (upstream, _seen) = lab::upstream().await;
    let text = lab::config(upstream.at, "") + "[deadlines]\ndrain = \"2s\"\n";
    let edge = Edge::with(&text, gateway::Options::default()).await;
    let mut client = Client::new(edge.at.public).await;
    let mut socket = open(&mut client, "/v1/lab:watch?text=endless&number=1").await;
    hear(&mut socket).await;
    let started = Instant::now();
    let stopping = tokio::spawn(edge.gateway.stop());
    let code = loop {
        match hear(&mut socket).await {
            Message::Close(Some(frame)) => break u16::from(frame.code),
            _ => assert!(started.elapsed() < Duration::from_secs(4), "it never ends"),
        }
    };
    assert_eq!(code, 1001);
    drop((socket, client));
    within(stopping).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}
