//! Clients that do not read: another stream of the same upstream flows as before, and what each of them holds is
//! bounded.

use crate::lab;
use crate::lab::{Seen, read_text};
use crate::support;
use crate::support::{Edge, get, open, until, within};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

const READERS: usize = 200;

async fn edge() -> (Edge, support::Upstream, Arc<Seen>) {
    let (upstream, seen) = lab::upstream().await;
    let edge = Edge::with(&lab::config(upstream.at, ""), gateway::Options::default()).await;
    (edge, upstream, seen)
}

/// Readers of far more small messages than fit between them and the upstream, who read none of them. They share
/// connections, with windows that are full after the first few.
async fn stalled(edge: &Edge, count: usize) -> Vec<Response<Incoming>> {
    let stream = TcpStream::connect(edge.at.public).await.unwrap();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1000);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut readers = vec![];
    for _ in 0..count {
        let uri = format!(
            "http://{}/v1/lab:watch?text=flood&number=1000000000&list={}",
            edge.at.public,
            "x".repeat(40)
        );
        let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
        readers.push(within(sender.send_request(request)).await.unwrap());
    }
    readers
}

/// How long the slowest of some short streams takes.
async fn slowest(edge: &Edge) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..30 {
        let started = Instant::now();
        let answer = get(edge.at.public, "/v1/lab:watch?text=t&number=20").await;
        assert_eq!(answer.body.windows(7).filter(|window| window == b"\ndata: ").count(), 20, "whole");
        slowest = slowest.max(started.elapsed());
    }
    slowest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_readers_delay_no_other_stream_of_their_upstream() {
    let (edge, _upstream, seen) = edge().await;
    let mut steady =
        open(edge.at.public, "GET /v1/lab:watch?text=endless&number=1 HTTP/1.1\r\nhost: HOST\r\n\r\n").await;
    read_text(&mut steady, "data: {").await;
    let readers = [stalled(&edge, READERS / 2).await, stalled(&edge, READERS / 2).await];
    assert_eq!(seen.calls(), READERS + 1);
    seen.settled().await;
    let sent = seen.sent() / READERS;
    assert!(sent < 128 << 10, "{sent} bytes of each went where nobody reads");
    // The one that began before goes on, on a connection that the stalled ones share …
    for _ in 0..20 {
        read_text(&mut steady, "data: {").await;
    }
    // … and new ones are as quick as ever: far from any time-out, and nothing was lost.
    let slowest = slowest(&edge).await;
    assert!(slowest < Duration::from_millis(250), "{slowest:?}");
    assert_eq!(seen.cancellations(), 0, "nobody's call was cut for what others do not read");
    drop(readers);
    until(|| seen.cancellations() >= READERS).await;
}

/// What waits for a reader that stalls is set aside after a second; it gets all of it when it reads on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stalls_and_reads_on_gets_every_message_in_order() {
    const MESSAGES: i64 = 60_000;
    let (edge, _upstream, seen) = edge().await;
    for (path, accept) in [
        (format!("/v1/lab:watch?text=end&number={MESSAGES}"), "text/event-stream"),
        (format!("/v1/lab:watch?text=fail&number={MESSAGES}"), "application/x-ndjson"),
    ] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = within(socket.connect(edge.at.public)).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\naccept: {accept}\r\nconnection: close\r\n\r\n",
            edge.at.public
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        seen.settled().await;
        // Longer than it takes to be seen to stall, twice.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let mut body = Vec::new();
        within(stream.read_to_end(&mut body)).await.unwrap();
        let text = String::from_utf8_lossy(&body);
        let numbers = text.split("\"number\":").skip(1);
        let numbers = numbers.filter_map(|rest| rest.split(['}', ',']).next()?.parse::<i64>().ok());
        // The first number is 0, which proto3's JSON leaves out.
        assert!(numbers.eq(1..MESSAGES), "{accept}: not all, or not in order");
        let end = if accept.ends_with("stream") { "event: end" } else { "\"error\"" };
        assert!(text.contains(end), "{}", &text[text.len() - 300..]);
    }
}
