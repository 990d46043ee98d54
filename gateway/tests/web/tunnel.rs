//! WebSocket tunnels: when they open, how they carry, and every way they end.

use crate::support::{Edge, open, raw, read_head, read_until, until, within};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const ASK: &str = "GET /open HTTP/1.1\r\nhost: HOST\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";
const GRANT: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";

/// Grants every handshake and sends back what comes, until the end.
async fn echoing() -> crate::support::Upstream {
    raw(|mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.contains("upgrade: websocket") && head.contains("sec-websocket-key: dGhl"), "{head}");
        stream.write_all(GRANT).await.unwrap();
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    })
    .await
}

async fn tunnel(edge: &Edge) -> TcpStream {
    let mut client = open(edge.at.public, ASK).await;
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("sec-websocket-accept: x"), "{head}");
    client
}

/// How long until the client sees the end.
async fn ends_after(client: &mut TcpStream) -> Duration {
    let begun = Instant::now();
    let _ = within(client.read_to_end(&mut Vec::new())).await;
    begun.elapsed()
}

#[tokio::test]
async fn a_tunnel_carries_both_ways_also_what_comes_with_the_handshake() {
    let upstream = echoing().await;
    let edge = Edge::start(upstream.at, "").await;
    let mut client = open(edge.at.public, &format!("{ASK}early")).await;
    read_head(&mut client).await;
    read_until(&mut client, "early").await;
    let large = "x".repeat(3 << 20);
    let (mut from, mut to) = client.split();
    let mut back = vec![0; large.len()];
    let (sent, read) =
        within(async { tokio::join!(to.write_all(large.as_bytes()), from.read_exact(&mut back)) }).await;
    assert!(sent.is_ok() && read.is_ok() && back == large.as_bytes());
    let metrics = crate::support::get(edge.at.admin, "/metrics").await.body;
    assert!(String::from_utf8_lossy(&metrics).contains("gateway_tunnels 1\n"));
}

#[tokio::test]
async fn without_the_upstreams_101_there_is_no_tunnel() {
    for (reply, status) in [
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", "403"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", "200"),
        ("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n", "502"),
    ] {
        let upstream = raw(move |mut stream| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(reply.as_bytes()).await;
            // What follows must be no request smuggled through a tunnel.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            assert!(rest.is_empty(), "{rest:?}");
        })
        .await;
        let edge = Edge::start(upstream.at, "").await;
        let mut client = open(edge.at.public, &format!("{ASK}GET /open/smuggled HTTP/1.1\r\n")).await;
        let head = read_head(&mut client).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
}

#[tokio::test]
async fn handshakes_with_bodies_and_on_other_routes_do_not_upgrade() {
    let upstream = echoing().await;
    let edge = Edge::start(upstream.at, "").await;
    let mut client =
        open(edge.at.public, &ASK.replace("\r\n\r\n", "\r\ncontent-length: 5\r\n\r\nhello")).await;
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 400 "));
    let plain = crate::support::echo().await;
    let edge = Edge::start(
        plain.at,
        "[routes.plain]\npath = \"/open/plain\"\nupstream = \"web\"\naccess = \"public\"",
    )
    .await;
    let mut client = open(edge.at.public, &ASK.replace("/open", "/open/plain")).await;
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "), "served as an ordinary request");
}

#[tokio::test]
async fn an_end_in_one_direction_leaves_the_other_open() {
    // Answers only after the client has ended its side.
    let upstream = raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(GRANT).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        stream.write_all(format!("got {text}").as_bytes()).await.unwrap();
    })
    .await;
    let edge = Edge::start(upstream.at, "").await;
    let mut client = tunnel(&edge).await;
    client.write_all(b"all").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    within(client.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "got all");
}

#[tokio::test]
async fn the_second_direction_gets_a_bounded_time() {
    let upstream = raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(GRANT).await.unwrap();
        while stream.write_all(b"still here ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let edge = Edge::start(upstream.at, "[deadlines]\ntunnel_half_close = \"150ms\"").await;
    let mut client = tunnel(&edge).await;
    client.shutdown().await.unwrap();
    let took = ends_after(&mut client).await.as_millis();
    assert!((100..3000).contains(&took), "{took} ms");
}

#[tokio::test]
async fn idle_and_old_tunnels_end_and_busy_ones_stay() {
    let upstream = echoing().await;
    let edge = Edge::start(upstream.at, "[deadlines]\ntunnel_idle = \"200ms\"").await;
    let mut busy = tunnel(&edge).await;
    for _ in 0..12 {
        busy.write_all(b"x").await.unwrap();
        read_until(&mut busy, "x").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = ends_after(&mut busy).await.as_millis();
    assert!((100..3000).contains(&took), "idle: {took} ms");

    let edge = Edge::start(upstream.at, "[deadlines]\ntunnel_max_age = \"200ms\"").await;
    let mut old = tunnel(&edge).await;
    let begun = Instant::now();
    while old.write_all(b"x").await.is_ok() && within(old.read(&mut [0; 9])).await.is_ok_and(|n| n > 0) {
        assert!(begun.elapsed() < Duration::from_secs(3), "the age has no bound");
    }
    assert!(begun.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_handshake_that_is_not_answered_is_504() {
    let upstream = raw(|mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let edge = Edge::start(upstream.at, "[deadlines]\ntunnel_handshake = \"100ms\"").await;
    let mut client = open(edge.at.public, ASK).await;
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 504 "));
}

#[tokio::test]
async fn tunnels_outlive_the_routes_timeout_and_have_a_limit() {
    let upstream = echoing().await;
    let edge = Edge::start(upstream.at, "[deadlines]\nresponse = \"50ms\"\n[limits]\ntunnels = 1").await;
    let mut first = tunnel(&edge).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    first.write_all(b"alive").await.unwrap();
    read_until(&mut first, "alive").await;
    let mut second = open(edge.at.public, ASK).await;
    assert!(read_head(&mut second).await.starts_with("HTTP/1.1 503 "));
    drop(first);
    let admin = edge.at.admin;
    within(async {
        while !String::from_utf8_lossy(&crate::support::get(admin, "/metrics").await.body)
            .contains("gateway_tunnels 0\n")
        {}
    })
    .await;
    tunnel(&edge).await;
}

#[tokio::test]
async fn a_reset_of_one_side_ends_the_other() {
    let told = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&told);
    let upstream = raw(move |mut stream| {
        let flag = std::sync::Arc::clone(&flag);
        async move {
            read_head(&mut stream).await;
            stream.write_all(GRANT).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
            flag.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    })
    .await;
    let edge = Edge::start(upstream.at, "").await;
    let client = tunnel(&edge).await;
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    until(|| told.load(std::sync::atomic::Ordering::SeqCst)).await;
}
