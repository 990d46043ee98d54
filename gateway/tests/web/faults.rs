//! Upstreams that fail, and clients that ask for too much: each with the status and code that tells it apart.

use crate::support::{Edge, base, echo, full, get, http, nobody, open, raw, read_head, send};
use ::http::{Request, Response};
use bytes::Bytes;
use gateway::Options;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn an_unreachable_upstream_is_503_with_retry_after() {
    let edge = Edge::start(nobody().await, "").await;
    let answer = get(edge.at.public, "/open").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "upstream_unavailable"));
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn an_upstream_that_breaks_off_or_speaks_nonsense_is_502() {
    for reply in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "SMTP ready\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
    ] {
        let upstream = raw(move |mut stream| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(reply.as_bytes()).await;
        })
        .await;
        let edge = Edge::start(upstream.at, "").await;
        let answer = get(edge.at.public, "/open").await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "bad_gateway"), "{reply:?}");
    }
}

#[tokio::test]
async fn a_silent_upstream_is_504_at_the_deadline() {
    let upstream = raw(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let edge = Edge::start(upstream.at, "[deadlines]\nresponse = \"100ms\"").await;
    let begun = Instant::now();
    let answer = get(edge.at.public, "/open").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "gateway_timeout"));
    assert!((100..2000).contains(&begun.elapsed().as_millis()));
    let stated = Request::get("/open").header("request-timeout", "0.02");
    assert_eq!(send(edge.at.public, stated, "").await.code(), "gateway_timeout");
}

#[tokio::test]
async fn a_body_cut_by_the_upstream_is_never_taken_for_a_whole_one() {
    let upstream = raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ =
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    })
    .await;
    let edge = Edge::start(upstream.at, "").await;
    let mut client = open(edge.at.public, "GET /open HTTP/1.1\r\nhost: HOST\r\n\r\n").await;
    let mut text = String::new();
    let _ = client.read_to_string(&mut text).await;
    assert!(text.contains("hello") && !text.ends_with("0\r\n\r\n"), "{text}");
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_meanwhile_is_no_error() {
    let upstream = raw(|mut stream| async move {
        read_head(&mut stream).await;
        // Says nothing of closing, and closes.
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    })
    .await;
    let edge = Edge::start(upstream.at, "").await;
    for _ in 0..50 {
        assert_eq!(get(edge.at.public, "/open").await.status, 200);
    }
}

#[tokio::test]
async fn a_post_on_a_connection_that_breaks_is_not_sent_twice() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let upstream = raw(move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            read_head(&mut stream).await;
            counter.fetch_add(1, SeqCst);
        }
    })
    .await;
    let edge = Edge::start(upstream.at, "").await;
    assert_eq!(get(edge.at.public, "/open").await.status, 200);
    let broken = send(edge.at.public, Request::post("/open"), "once").await;
    assert_eq!((broken.code().as_str(), seen.load(SeqCst)), ("bad_gateway", 1));
    // A GET may be repeated: the second connection answers it.
    assert_eq!(get(edge.at.public, "/open").await.status, 200);
    assert_eq!(get(edge.at.public, "/open").await.status, 200);
}

#[tokio::test]
async fn connections_are_used_again() {
    let opened = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&opened);
    let upstream = raw(move |mut stream| {
        counter.fetch_add(1, SeqCst);
        async move {
            for _ in 0..100 {
                read_head(&mut stream).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let edge = Edge::start(upstream.at, "").await;
    for _ in 0..20 {
        assert_eq!(get(edge.at.public, "/open").await.status, 200);
    }
    assert_eq!(opened.load(SeqCst), 1);
}

#[tokio::test]
async fn bodies_over_the_limit_are_413_declared_or_not() {
    let upstream = echo().await;
    let edge = Edge::start(upstream.at, "[limits]\nbody_bytes = 10").await;
    let fits = send(edge.at.public, Request::post("/open"), "0123456789").await;
    assert_eq!(fits.json()["body"], "0123456789");
    let declared = send(edge.at.public, Request::post("/open"), "0123456789x").await;
    assert_eq!((declared.status.as_u16(), declared.code().as_str()), (413, "body_too_large"));
    let chunked = "POST /open HTTP/1.1\r\nhost: HOST\r\ntransfer-encoding: chunked\r\n\r\n6\r\n012345\r\n6\r\n678901\r\n0\r\n\r\n";
    let mut client = open(edge.at.public, chunked).await;
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn heads_over_the_limit_are_431() {
    let upstream = echo().await;
    let edge = Edge::start(upstream.at, "[limits]\nheader_bytes = 4096").await;
    let request = |size| Request::get("/open").header("x-large", "a".repeat(size));
    assert_eq!(send(edge.at.public, request(3000), "").await.status, 200);
    let large = send(edge.at.public, request(5000), "").await;
    assert_eq!((large.status.as_u16(), large.code().as_str()), (431, "headers_too_large"));
    // Beyond what the parser buffers there is no request to answer with a document.
    assert_eq!(send(edge.at.public, request(50_000), "").await.status, 431);
}

#[tokio::test]
async fn unknown_paths_methods_and_dot_segments_have_their_own_codes() {
    let upstream = echo().await;
    let edge = Edge::start(upstream.at, "").await;
    let unknown = get(edge.at.public, "/nowhere").await;
    assert_eq!((unknown.status.as_u16(), unknown.code().as_str()), (404, "not_found"));
    let method = send(edge.at.public, Request::post("/healthz"), "").await;
    assert_eq!(
        (method.code().as_str(), &method.headers["allow"]),
        ("method_not_allowed", &"GET, HEAD".parse().unwrap())
    );
    assert_eq!(get(edge.at.public, "/open/../mine").await.code(), "invalid_argument");
    assert_eq!(get(edge.at.public, "/open/%2e%2e/mine").await.code(), "invalid_argument");
}

#[tokio::test]
async fn more_requests_than_an_upstream_may_have_are_503_overloaded() {
    let upstream = http(|_| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Response::new(full("late"))
    })
    .await;
    let text = base(upstream.at, "").replace("secret = \"web", "requests = 1\nsecret = \"web");
    let edge = Edge::with(&text, Options::default()).await;
    let to = edge.at.public;
    let first = tokio::spawn(async move { get(to, "/open").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let second = get(to, "/open").await;
    assert_eq!((second.status.as_u16(), second.code().as_str()), (503, "overloaded"));
    assert_eq!(first.await.unwrap().body, Bytes::from("late"));
}
