//! Starting without upstreams, reloading, draining, and what the gateway says about itself.

use crate::support::{
    Edge, base, echo, full, get, http, nobody, open, raw, read_head, read_until, send, within,
};
use ::http::{Request, Response};
use gateway::Options;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A file in the system's temporary folder that goes when it is dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gateway-{name}-{}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn it_is_healthy_without_any_upstream() {
    let none = "[listen]\npublic = \"127.0.0.1:0\"\ninternal = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[log]\naccess = false";
    for text in [none.to_owned(), base(nobody().await, "")] {
        let edge = Edge::with(&text, Options::default()).await;
        for path in ["/healthz", "/readyz"] {
            let answer = get(edge.at.public, path).await;
            assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"ok"[..]), "{path}");
        }
        let page = get(edge.at.public, "/").await;
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
        assert!(page.body.starts_with(b"<!doctype html>"));
    }
}

#[tokio::test]
async fn a_reload_swaps_routes_and_a_bad_file_keeps_the_old_ones() {
    let upstream = echo().await;
    let text = base(upstream.at, "");
    let file = File::new("reload", &text);
    let edge = Edge::with(&text, Options { source: Some(file.0.clone()), dev_issuer: false }).await;
    assert_eq!(get(edge.at.public, "/new").await.code(), "not_found");
    let more = "[routes.new]\npath = \"/new\"\nupstream = \"web\"\naccess = \"public\"\n";
    std::fs::write(&file.0, base(upstream.at, more)).unwrap();
    let reloaded = send(edge.at.admin, Request::post("/reload"), "").await;
    assert_eq!((reloaded.status.as_u16(), &reloaded.json()["reloaded"]), (200, &true.into()));
    assert_eq!(get(edge.at.public, "/new").await.status, 200);

    std::fs::write(&file.0, "[limits]\nbody_bytes = \"12mb\"").unwrap();
    let refused = send(edge.at.admin, Request::post("/reload"), "").await;
    assert_eq!(refused.status, 422);
    assert!(refused.json()["error"].as_str().unwrap().contains("limits.body_bytes: \"12mb\" is not valid"));
    assert_eq!(get(edge.at.public, "/new").await.status, 200);

    std::fs::write(
        &file.0,
        base(upstream.at, more).replace("admin = \"127.0.0.1:0\"", "admin = \"127.0.0.1:1\""),
    )
    .unwrap();
    let listen = send(edge.at.admin, Request::post("/reload"), "").await;
    assert_eq!(listen.json()["at_next_start"], serde_json::json!(["listen.admin"]));
}

#[tokio::test]
async fn a_drain_lets_requests_finish_and_takes_no_new_ones() {
    let upstream = http(|_| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Response::new(full("done"))
    })
    .await;
    let edge = Edge::start(upstream.at, "").await;
    let to = edge.at.public;
    let mut idle = open(to, "").await;
    let running = tokio::spawn(async move { get(to, "/open").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    edge.gateway.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "an idle connection held the drain up");
    let answer = running.await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"done"[..]));
    assert_eq!(within(idle.read(&mut [0])).await.unwrap_or(0), 0);
    assert!(tokio::net::TcpStream::connect(to).await.is_err());
}

#[tokio::test]
async fn who_asks_for_nothing_holds_no_drain_up_whatever_it_fails_to_answer() {
    // A preface and settings, and no answer to GOAWAY's ping: what a client does that hangs, or is cut off.
    let mut mute = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    mute.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let edge = Edge::start(echo().await.at, "[deadlines]\ndrain = \"20s\"").await;
    let mut mute = open(edge.at.public, std::str::from_utf8(&mute).unwrap()).await;
    within(mute.read_exact(&mut [0; 9])).await.unwrap();
    let mut half = open(edge.at.public, "GET /open HTTP/1.1\r\nhost: HO").await;
    // A request that is answered after what was sent before it was taken.
    let mut kept = open(edge.at.public, "GET /healthz HTTP/1.1\r\nhost: HOST\r\n\r\n").await;
    read_until(&mut kept, "ok").await;
    let begun = Instant::now();
    edge.gateway.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    for stream in [&mut mute, &mut half, &mut kept] {
        let _ = within(stream.read_to_end(&mut Vec::new())).await;
    }
}

#[tokio::test]
async fn a_drain_ends_streams_and_tunnels_at_its_bound() {
    const GRANT: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let upstream = raw(|mut stream| async move {
        let tunnel = read_head(&mut stream).await.contains("upgrade: websocket");
        let head: &[u8] =
            if tunnel { GRANT } else { b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n" };
        stream.write_all(head).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let edge = Edge::start(upstream.at, "[deadlines]\ndrain = \"300ms\"").await;
    let mut stream = open(edge.at.public, "GET /open HTTP/1.1\r\nhost: HOST\r\n\r\n").await;
    read_until(&mut stream, "abc\r\n").await;
    let mut tunnel = open(
        edge.at.public,
        "GET /open HTTP/1.1\r\nhost: HOST\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    )
    .await;
    assert!(read_head(&mut tunnel).await.starts_with("HTTP/1.1 101 "));
    let begun = Instant::now();
    edge.gateway.stop().await;
    let took = begun.elapsed().as_millis();
    assert!((250..2500).contains(&took), "{took} ms");
    for mut open in [stream, tunnel] {
        let mut rest = Vec::new();
        let _ = within(open.read_to_end(&mut rest)).await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "a cut stream must not look whole");
    }
}

#[tokio::test]
async fn connections_that_never_ask_are_closed() {
    let upstream = echo().await;
    let edge = Edge::start(upstream.at, "[deadlines]\nrequest_head = \"1s\"\nkeep_alive = \"1s\"").await;
    let mut silent = open(edge.at.public, "").await;
    let mut slow = open(edge.at.public, "GET /open HTTP/1.1\r\nhost: HO").await;
    let mut kept = open(edge.at.public, "GET /healthz HTTP/1.1\r\nhost: HOST\r\n\r\n").await;
    read_until(&mut kept, "ok").await;
    for stream in [&mut silent, &mut slow, &mut kept] {
        assert_eq!(within(stream.read(&mut [0])).await.unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn the_admin_listener_shows_metrics_and_states() {
    let upstream = echo().await;
    let edge = Edge::start(upstream.at, "").await;
    get(edge.at.public, "/open").await;
    get(edge.at.public, "/nowhere").await;
    let metrics = String::from_utf8(get(edge.at.admin, "/metrics").await.body.to_vec()).unwrap();
    for line in [
        "gateway_requests_total{route=\"open\",status=\"2xx\"} 1",
        "gateway_problems_total{code=\"not_found\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    within(async { while get(edge.at.admin, "/upstreams").await.json()[0]["state"] != "up" {} }).await;
    drop(upstream);
}

#[tokio::test]
async fn the_development_issuer_is_only_there_when_asked_for() {
    let upstream = echo().await;
    let ask = || Request::post("/dev/token").header("content-type", "application/json");
    let body = "{\"sub\": \"alice\", \"scope\": \"notes\"}";
    let edge = Edge::start(upstream.at, "").await;
    assert_eq!(send(edge.at.admin, ask(), body).await.status, 404);
    // Also without a configured secret: the issuer then has one of its own.
    let text = base(upstream.at, "").replace(&format!("hs256_secret = \"{}\"", crate::support::SECRET), "");
    let edge = Edge::with(&text, Options { source: None, dev_issuer: true }).await;
    let token = send(edge.at.admin, ask(), body).await.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(crate::support::get_as(edge.at.public, "/mine", &token).await.status, 200);
    let open = base(upstream.at, "").replace("public = \"127.0.0.1:0\"", "public = \"0.0.0.0:0\"");
    let refused =
        gateway::Gateway::start(crate::support::parse(&open), Options { source: None, dev_issuer: true })
            .await;
    assert!(refused.err().unwrap().to_string().contains("loopback"));
}

#[tokio::test]
async fn grpc_upstreams_are_asked_by_the_standard_health_check() {
    for (status, state) in [(1_u8, "up"), (2, "down")] {
        let upstream = raw(move |stream| async move {
            let service =
                hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    let trailers = ::http::HeaderMap::from_iter([(
                        ::http::HeaderName::from_static("grpc-status"),
                        ::http::HeaderValue::from_static("0"),
                    )]);
                    let frames = [
                        hyper::body::Frame::data(bytes::Bytes::from(vec![0, 0, 0, 0, 2, 8, status])),
                        hyper::body::Frame::trailers(trailers),
                    ];
                    let frames = futures_util::stream::iter(frames.map(Ok::<_, std::convert::Infallible>));
                    Ok::<_, std::convert::Infallible>(Response::new(http_body_util::StreamBody::new(frames)))
                });
            let executor = hyper_util::rt::TokioExecutor::new();
            let io = hyper_util::rt::TokioIo::new(stream);
            let _ = hyper::server::conn::http2::Builder::new(executor).serve_connection(io, service).await;
        })
        .await;
        let more = format!("[upstreams.ai]\nprotocol = \"grpc\"\naddress = \"{}\"", upstream.at);
        let edge = Edge::start(nobody().await, &more).await;
        within(async {
            loop {
                let first = get(edge.at.admin, "/upstreams").await.json()[0].clone();
                assert_eq!(first["name"], "ai");
                if first["state"] != "unknown" {
                    assert_eq!(first["state"], state, "{first}");
                    break;
                }
            }
        })
        .await;
    }
}
