//! WebSocket tunnels of clients that speak HTTP/2: an upgrade of HTTP/1.1 upstream, and the same rules for their end.

use crate::support::{
    Edge, Upstream,
    http2::{ByHand, Client},
    raw, read_head, until, within, within_50_ms,
};
use http_body_util::BodyExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The value of a header in a head.
fn value<'a>(head: &'a str, name: &str) -> &'a str {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
}

/// Grants a handshake and returns its head.
async fn grant(stream: &mut TcpStream) -> String {
    let head = read_head(stream).await;
    let accept = derive_accept_key(value(&head, "sec-websocket-key").as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\nsec-websocket-protocol: chat\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    head
}

/// Sends back what comes, until the end.
async fn echoing() -> Upstream {
    raw(|mut stream| async move {
        grant(&mut stream).await;
        let (mut from, mut to) = stream.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    })
    .await
}

async fn echoes(client: &mut TokioIo<Upgraded>, text: &str) {
    client.write_all(text.as_bytes()).await.unwrap();
    let mut back = vec![0; text.len()];
    within(client.read_exact(&mut back)).await.unwrap();
    assert_eq!(back, text.as_bytes());
}

async fn ends_after(client: &mut TokioIo<Upgraded>) -> Duration {
    let begun = Instant::now();
    let _ = within(client.read_to_end(&mut Vec::new())).await;
    begun.elapsed()
}

#[tokio::test]
async fn the_upstream_gets_an_ordinary_upgrade_with_a_key_of_its_own() {
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&heads);
    let upstream = raw(move |mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            let head = grant(&mut stream).await;
            seen.lock().unwrap().push(head);
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    })
    .await;
    let edge = Edge::start(upstream.at, "").await;
    let mut client = Client::new(edge.at.public).await;
    let theirs = "dGhlIHNhbXBsZSBub25jZQ==";
    let mut open = vec![];
    for _ in 0..2 {
        let headers = [
            ("sec-websocket-protocol", "chat"),
            ("sec-websocket-key", theirs),
            ("x-hybrid-identity", "forged"),
        ];
        let answer = client.ask("/open?a=b", &headers).await;
        assert_eq!(answer.status().as_u16(), 200);
        assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
        for hop in ["sec-websocket-accept", "upgrade", "connection", "content-length"] {
            assert!(!answer.headers().contains_key(hop), "{hop} is HTTP/1.1's");
        }
        open.push(hyper::upgrade::on(answer).await.unwrap());
    }
    let heads = heads.lock().unwrap();
    for head in heads.iter() {
        assert!(head.starts_with("GET /open?a=b HTTP/1.1\r\n"), "{head}");
        let one = |name, expected: &str| assert_eq!(value(head, name), expected, "{name} in {head}");
        one("upgrade", "websocket");
        one("connection", "upgrade");
        one("sec-websocket-version", "13");
        one("sec-websocket-protocol", "chat");
        one("host", &edge.at.public.to_string());
        assert_eq!(value(head, "sec-websocket-key").len(), 24);
        assert!(!head.contains(theirs) && !head.contains("forged") && head.contains("x-hybrid-identity"));
    }
    assert_ne!(value(&heads[0], "sec-websocket-key"), value(&heads[1], "sec-websocket-key"));
}

#[tokio::test]
async fn tunnels_of_one_connection_carry_both_ways_beside_its_requests() {
    let upstream = echoing().await;
    let edge = Edge::start(upstream.at, "").await;
    let mut client = Client::new(edge.at.public).await;
    let (one, mut two) = (client.open("/open", &[]).await, client.open("/open", &[]).await);
    let large = "x".repeat(3 << 20);
    let (mut from, mut to) = tokio::io::split(one);
    let mut back = vec![0; large.len()];
    let (sent, read) =
        within(async { tokio::join!(to.write_all(large.as_bytes()), from.read_exact(&mut back)) }).await;
    assert!(sent.is_ok() && read.is_ok() && back == large.as_bytes());
    echoes(&mut two, "beside it").await;
    assert_eq!(client.get("/healthz").await.status().as_u16(), 200);
    let metrics = crate::support::get(edge.at.admin, "/metrics").await.body;
    assert!(String::from_utf8_lossy(&metrics).contains("gateway_tunnels 2\n"));
}

#[tokio::test]
async fn without_the_upstreams_101_there_is_no_tunnel() {
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n";
    for (reply, status, body) in [
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno".to_owned(), 403, "no"),
        ("HTTP/1.1 302 Found\r\nlocation: /else\r\ncontent-length: 0\r\n\r\n".to_owned(), 302, ""),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno".to_owned(), 502, "did not change to WebSocket"),
        (format!("{SWITCH}upgrade: other\r\n\r\n"), 502, "not one to WebSocket"),
        (format!("{SWITCH}upgrade: websocket\r\n\r\n"), 502, "not one to WebSocket"),
        (
            format!("{SWITCH}upgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n"),
            502,
            "not one to WebSocket",
        ),
    ] {
        let answer = reply.clone();
        let upstream = raw(move |mut stream| {
            let answer = answer.clone();
            async move {
                read_head(&mut stream).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        })
        .await;
        let edge = Edge::start(upstream.at, "").await;
        let answer = Client::new(edge.at.public).await.ask("/open", &[]).await;
        assert_eq!(answer.status().as_u16(), status, "{reply}");
        let text = within(answer.into_body().collect()).await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&text).contains(body), "{text:?}");
    }
}

#[tokio::test]
async fn where_there_is_no_websocket_no_answer_says_so() {
    let upstream = crate::support::echo().await;
    let plain = "[routes.plain]\npath = \"/open/plain\"\nupstream = \"web\"\naccess = \"public\"";
    let edge = Edge::start(upstream.at, plain).await;
    let mut client = Client::new(edge.at.public).await;
    for (protocol, path, status) in [
        ("websocket", "/open/plain", 501),
        ("websocket", "/", 501),
        ("websocket", "/healthz", 501),
        ("websocket", "/nowhere", 404),
        ("websocket", "/mine", 501),
        ("connect-udp", "/open", 501),
    ] {
        let answer = client.ask_for(protocol, path, &[]).await;
        assert_eq!(answer.status().as_u16(), status, "{protocol} at {path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    let foreign = client.ask("/open", &[("origin", "http://evil.example")]).await;
    assert_eq!(foreign.status().as_u16(), 403, "pages of other origins open none, either");
}

#[tokio::test]
async fn an_end_in_one_direction_leaves_the_other_open() {
    let upstream = raw(|mut stream| async move {
        grant(&mut stream).await;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        stream.write_all(format!("got {text}").as_bytes()).await.unwrap();
    })
    .await;
    let edge = Edge::start(upstream.at, "").await;
    let mut client = Client::new(edge.at.public).await.open("/open", &[]).await;
    client.write_all(b"all").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    within(client.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "got all");
}

#[tokio::test]
async fn the_second_direction_gets_a_bounded_time() {
    let upstream = raw(|mut stream| async move {
        grant(&mut stream).await;
        while stream.write_all(b"still here ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let edge = Edge::start(upstream.at, "[deadlines]\ntunnel_half_close = \"150ms\"").await;
    let mut client = Client::new(edge.at.public).await.open("/open", &[]).await;
    client.shutdown().await.unwrap();
    let took = ends_after(&mut client).await.as_millis();
    assert!((100..3000).contains(&took), "{took} ms");
}

#[tokio::test]
async fn idle_and_old_tunnels_end_and_the_connection_stays() {
    let upstream = echoing().await;
    for bound in ["tunnel_idle", "tunnel_max_age"] {
        let edge = Edge::start(upstream.at, &format!("[deadlines]\n{bound} = \"200ms\"")).await;
        let mut client = Client::new(edge.at.public).await;
        let mut tunnel = client.open("/open", &[]).await;
        echoes(&mut tunnel, "x").await;
        let took = ends_after(&mut tunnel).await.as_millis();
        assert!((100..3000).contains(&took), "{bound}: {took} ms");
        assert_eq!(client.get("/healthz").await.status().as_u16(), 200);
    }
}

#[tokio::test]
async fn a_quiet_tunnel_keeps_its_connection_in_use() {
    let upstream = echoing().await;
    let edge = Edge::start(upstream.at, "[deadlines]\nkeep_alive = \"1s\"").await;
    let mut tunnel = Client::new(edge.at.public).await.open("/open", &[]).await;
    // Far beyond what a connection may wait for its next request.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    echoes(&mut tunnel, "alive").await;
}

/// An upstream that reads to the end of each tunnel, and when each of them ended.
async fn reading() -> (Upstream, Arc<Mutex<Vec<Instant>>>) {
    let ends = Arc::<Mutex<Vec<Instant>>>::default();
    let seen = Arc::clone(&ends);
    let upstream = raw(move |mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            grant(&mut stream).await;
            let _ = stream.write_all(b"hello").await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
            // Only a connection that is closed whole takes nothing more: half of one would.
            while stream.write_all(b"more").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            seen.lock().unwrap().push(Instant::now());
        }
    })
    .await;
    (upstream, ends)
}

#[tokio::test]
async fn a_reset_of_the_stream_closes_the_upstreams_side_within_50_ms() {
    let (upstream, ends) = reading().await;
    let edge = Edge::start(upstream.at, "").await;
    within_50_ms(async || {
        let before = ends.lock().unwrap().len();
        let mut client = ByHand::open(edge.at.public, "/open").await;
        assert_eq!(client.receive().await, b"hello");
        client.send(b"x").await;
        let left = Instant::now();
        client.reset().await;
        until(|| ends.lock().unwrap().len() > before).await;
        ends.lock().unwrap().last().unwrap().saturating_duration_since(left)
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_upstreams_side_within_50_ms() {
    let (upstream, ends) = reading().await;
    let edge = Edge::start(upstream.at, "").await;
    let mut client = Client::new(edge.at.public).await;
    within_50_ms(async || {
        let before = ends.lock().unwrap().len();
        let mut tunnel = client.open("/open", &[]).await;
        within(tunnel.read_exact(&mut [0; 5])).await.unwrap();
        let left = Instant::now();
        drop(tunnel);
        until(|| ends.lock().unwrap().len() > before).await;
        ends.lock().unwrap().last().unwrap().saturating_duration_since(left)
    })
    .await;
    assert_eq!(client.get("/healthz").await.status().as_u16(), 200, "the connection goes on");
}

#[tokio::test]
async fn tunnels_are_bounded_whatever_they_come_over() {
    let upstream = echoing().await;
    let edge = Edge::start(upstream.at, "[limits]\ntunnels = 1").await;
    let mut client = Client::new(edge.at.public).await;
    let first = client.open("/open", &[]).await;
    assert_eq!(client.ask("/open", &[]).await.status().as_u16(), 503);
    drop(first);
    within(async { while client.ask("/open", &[]).await.status().as_u16() != 200 {} }).await;
}

#[tokio::test]
async fn a_drain_ends_tunnels_at_its_bound() {
    let upstream = echoing().await;
    let edge = Edge::start(upstream.at, "[deadlines]\ndrain = \"300ms\"").await;
    let mut tunnel = Client::new(edge.at.public).await.open("/open", &[]).await;
    let started = Instant::now();
    let stopping = tokio::spawn(edge.gateway.stop());
    echoes(&mut tunnel, "what runs goes on").await;
    ends_after(&mut tunnel).await;
    within(stopping).await.unwrap();
    let took = started.elapsed();
    assert!((Duration::from_millis(250)..Duration::from_millis(1200)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_upstream_back() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let upstream = raw(move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            grant(&mut stream).await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {
                counter.fetch_add(4096, SeqCst);
            }
        }
    })
    .await;
    let edge = Edge::start(upstream.at, "").await;
    let _client = ByHand::open(edge.at.public, "/open").await;
    let settled = async {
        loop {
            let before = sent.load(SeqCst);
            tokio::time::sleep(Duration::from_millis(200)).await;
            if before > 0 && sent.load(SeqCst) == before {
                return before;
            }
        }
    };
    let sent = within(settled).await;
    assert!(sent < 16 << 20, "{sent} bytes went where nobody reads");
}
