//! Streamed bodies: passed on piece by piece, and stopped within 50 ms when the client goes away.

use crate::support::{Edge, open, raw, read_head, read_until, within};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Mutex, mpsc},
};

const GET: &str = "GET /open HTTP/1.1\r\nhost: HOST\r\n\r\n";
const EVENTS: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// Says when its connection has ended; answers with `head` first.
async fn watched(head: &'static [u8]) -> (crate::support::Upstream, mpsc::UnboundedReceiver<&'static str>) {
    let (tell, told) = mpsc::unbounded_channel();
    let upstream = raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(head).await.unwrap();
            tell.send("asked").unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
            tell.send("ended").unwrap();
        }
    })
    .await;
    (upstream, told)
}

fn leave(client: TcpStream, reset: bool) {
    if reset {
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    }
    drop(client);
}

#[tokio::test]
async fn events_are_passed_on_one_by_one() {
    let (confirm, confirmed) = mpsc::unbounded_channel::<()>();
    let confirmed = Arc::new(Mutex::new(confirmed));
    let upstream = raw(move |mut stream| {
        let confirmed = Arc::clone(&confirmed);
        async move {
            read_head(&mut stream).await;
            stream.write_all(EVENTS).await.unwrap();
            // The next event comes only when the client has the last: a buffer in between would stop this.
            for event in ["one", "two", "three"] {
                let data = format!("data: {event}\n\n");
                stream.write_all(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes()).await.unwrap();
                confirmed.lock().await.recv().await;
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    // A stream is not bound by the route's timeout.
    let edge = Edge::start(upstream.at, "[deadlines]\nresponse = \"300ms\"").await;
    let mut client = open(edge.at.public, GET).await;
    for event in ["one", "two", "three"] {
        read_until(&mut client, &format!("data: {event}\n\n")).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        confirm.send(()).unwrap();
    }
    read_until(&mut client, "0\r\n\r\n").await;
}

/// How long the upstream's request outlives its client, at best of five: the machine may be busy with other things.
async fn outlives(head: &'static [u8], reset: bool) -> Duration {
    let (upstream, mut told) = watched(head).await;
    let edge = Edge::start(upstream.at, "").await;
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let mut client = open(edge.at.public, GET).await;
        if !head.is_empty() {
            read_head(&mut client).await;
        }
        assert_eq!(within(told.recv()).await, Some("asked"));
        let left = Instant::now();
        leave(client, reset);
        assert_eq!(within(told.recv()).await, Some("ended"));
        best = best.min(left.elapsed());
    }
    best
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_ends_it_upstream_within_50_ms() {
    for reset in [false, true] {
        let took = outlives(EVENTS, reset).await;
        assert!(took < Duration::from_millis(50), "{took:?} (reset: {reset})");
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_ends_the_request_within_50_ms() {
    for reset in [false, true] {
        let took = outlives(b"", reset).await;
        assert!(took < Duration::from_millis(50), "{took:?} (reset: {reset})");
    }
}

#[tokio::test]
async fn uploads_are_passed_on_as_they_come() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let upstream = raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            read_head(&mut stream).await;
            read_until(&mut stream, "first").await;
            tell.send(()).unwrap();
            read_until(&mut stream, "0\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    // The upload takes longer than the response may: the response's time begins when the upload has ended.
    let edge = Edge::start(upstream.at, "[deadlines]\nresponse = \"100ms\"").await;
    let mut client = open(
        edge.at.public,
        "POST /open HTTP/1.1\r\nhost: HOST\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n",
    )
    .await;
    within(told.recv()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_stalled_response_is_cut() {
    let (upstream, mut told) = watched(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    let edge = Edge::start(upstream.at, "[deadlines]\nbody_idle = \"100ms\"").await;
    let mut client = open(edge.at.public, GET).await;
    let mut text = Vec::new();
    let _ = within(client.read_to_end(&mut text)).await;
    assert!(String::from_utf8_lossy(&text).ends_with("half"));
    assert_eq!((told.recv().await, within(told.recv()).await), (Some("asked"), Some("ended")));
}
