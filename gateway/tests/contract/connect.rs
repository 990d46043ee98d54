//! Connect's unary calls through the gateway: JSON and protobuf, `POST` and `GET`, compression, deadlines and errors.

use crate::lab;
use crate::lab::Sample;
use crate::rpc;
use crate::rpc::{BOTH, Whole, bearer, edge, full, sample};
use crate::support;
use crate::support::until;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Version};
use prost::Message;
use serde_json::json;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use transcode::{gzip, status::Details};

fn path(method: &str) -> String {
    let service = if matches!(method, "Gather" | "Peek") { "Wire" } else { "Lab" };
    format!("/lab.v1.{service}Service/{method}")
}

fn json_call(method: &str) -> http::request::Builder {
    rpc::post(&path(method))
        .header("content-type", "application/json")
        .header("connect-protocol-version", "1")
}

async fn send(to: SocketAddr, request: http::request::Builder, body: impl Into<Bytes>) -> Whole {
    rpc::whole(to, Version::HTTP_11, request, full(body)).await
}

async fn get(to: SocketAddr, method: &str, query: &str) -> Whole {
    send(to, Request::get(format!("{}?{query}", path(method))), "").await
}

/// Status and code, after checking that it is Connect's JSON.
fn error(answer: &Whole) -> (u16, String) {
    assert_eq!(answer.header("content-type"), "application/json", "{:?}", answer.body);
    (answer.status, answer.json()["code"].as_str().unwrap().to_owned())
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn json_and_protobuf_over_both_versions_of_http() {
    let (edge, _upstream, seen) = edge("").await;
    for version in BOTH {
        let request = json_call("Echo")
            .header("authorization", bearer("lab"))
            .header("x-custom", "kept")
            .header("x-raw-bin", "AQI")
            .header("grpc-encoding", "forged")
            .header("connect-timeout-ms", "5000");
        let answer =
            rpc::whole(edge.at.public, version, request, full(r#"{"text":"hello","number":7}"#)).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"text": "hello", "number": 7})));
        assert_eq!(
            (answer.header("content-type"), answer.header("trailer-x-counted")),
            ("application/json", "yes")
        );
        assert!(answer.header("server-timing").ends_with("inference;dur=1.5"));
        assert!(answer.headers.keys().all(|name| !name.as_str().contains("grpc")), "{:?}", answer.headers);
        let head = seen.last();
        let request = json_call("Echo").header("authorization", bearer("lab"));
        let timed = rpc::whole(edge.at.public, version, request, full(r#"{"text":"timed"}"#)).await;
        assert!(
            timed.header("server-timing").ends_with("inference;dur=9.5"),
            "told at the end: {:?}",
            timed.headers
        );
        assert_eq!(
            (&head["x-custom"], &head["x-raw-bin"]),
            (&"kept".parse().unwrap(), &"AQI".parse().unwrap())
        );
        for name in
            ["authorization", "connect-protocol-version", "connect-timeout-ms", "grpc-encoding", "accept"]
        {
            assert!(!head.contains_key(name), "{name}");
        }
        let micros: u64 = head["grpc-timeout"].to_str().unwrap().trim_end_matches('u').parse().unwrap();
        assert!((4_000_000..=5_000_000).contains(&micros), "{micros}");
        let request = rpc::post(&path("Get")).header("content-type", "application/proto");
        let answer = rpc::whole(edge.at.public, version, request, full(sample("x", 3).encode_to_vec())).await;
        assert_eq!(answer.header("content-type"), "application/proto");
        assert_eq!(Sample::decode(answer.body).unwrap(), sample("x", 3));
    }
}

#[tokio::test]
async fn what_has_no_side_effects_can_be_got() {
    let (edge, _upstream, seen) = edge("").await;
    let at = edge.at.public;
    let proto = sample("hello", 7).encode_to_vec();
    let zipped = gzip::compress(&proto);
    for query in [
        "connect=v1&encoding=json&message=%7B%22text%22%3A%22hello%22%2C%22number%22%3A7%7D".to_owned(),
        format!("connect=v1&encoding=proto&base64=1&message={}", URL_SAFE_NO_PAD.encode(&proto)),
        format!("encoding=proto&base64=1&compression=gzip&message={}", URL_SAFE_NO_PAD.encode(&zipped)),
    ] {
        let answer = get(at, "Peek", &query).await;
        assert_eq!(answer.status, 200, "{query}: {:?}", answer.body);
        let found = match answer.header("content-type") {
            "application/json" => answer.json() == json!({"text": "hello", "number": 7}),
            _ => Sample::decode(answer.body).unwrap() == sample("hello", 7),
        };
        assert!(found, "{query}");
    }
    let calls = seen.calls();
    for query in
        ["encoding=xml&message=", "encoding=json&message=%7B&connect=v2", "encoding=json&message=%7B"]
    {
        assert_eq!(error(&get(at, "Peek", query).await), is(400, "invalid_argument"), "{query}");
    }
    assert_eq!(
        error(&get(at, "Peek", "encoding=json&message=x&compression=br").await),
        is(501, "unimplemented")
    );
    let answer = get(at, "Get", "encoding=json&message=%7B%7D").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
    assert_eq!(get(at, "Peek", "message=x").await.status, 404, "no Connect request");
    assert_eq!(seen.calls(), calls);
}

#[tokio::test]
async fn statuses_with_their_details_become_connects_json() {
    let (edge, _upstream, _seen) = edge("").await;
    let answer = send(edge.at.public, json_call("Get"), r#"{"text":"refuse"}"#).await;
    assert_eq!(error(&answer), is(400, "invalid_argument"));
    let found = answer.json();
    assert_eq!(
        (&found["message"], &found["details"][0]["type"]),
        (&json!("not good"), &json!("google.rpc.BadRequest"))
    );
    assert_eq!(found["details"][1]["type"], "google.rpc.RetryInfo");
    let value = found["details"][0]["value"].as_str().unwrap();
    assert!(!value.ends_with('='), "without padding");
    assert_eq!(answer.header("server-timing").split("inference").count(), 2, "its metadata are headers");
    let answer = send(edge.at.public, json_call("Get"), r#"{"text":"garbage"}"#).await;
    assert_eq!(error(&answer), is(503, "unavailable"));
    let answer = send(edge.at.public, json_call("Get"), r#"{"text":"huge"}"#).await;
    assert_eq!(error(&answer), is(429, "resource_exhausted"), "larger than the limit");
    let answer = send(edge.at.public, json_call("Get"), r#"{"text":"cut"}"#).await;
    assert_eq!(error(&answer), is(503, "unavailable"));
}

#[tokio::test]
async fn the_gateways_own_problems_come_in_connects_form() {
    let (edge, _upstream, seen) = edge("").await;
    let at = edge.at.public;
    let answer = send(at, json_call("Echo"), "{}").await;
    assert_eq!((error(&answer), answer.header("www-authenticate")), (is(401, "unauthenticated"), "Bearer"));
    let foreign = json_call("Echo").header("authorization", bearer("notes"));
    assert_eq!(error(&send(at, foreign, "{}").await), is(403, "permission_denied"));
    let origin = json_call("Get").header("origin", "https://evil.example");
    assert_eq!(error(&send(at, origin, "{}").await), is(403, "permission_denied"));
    for method in ["Inner", "Unruled", "Nothing"] {
        let answer = send(at, json_call(method), "{}").await;
        assert_eq!(answer.status, 404, "{method}: which clients read as unimplemented");
        assert_eq!(answer.header("content-type"), "application/problem+json", "the same for what is hidden");
    }
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(10_000));
    assert_eq!(error(&send(at, json_call("Get"), large).await), is(429, "resource_exhausted"));
    let answer = send(at, json_call("Get"), r#"{"nope":1}"#).await;
    assert_eq!(error(&answer), is(400, "invalid_argument"));
    assert_eq!(answer.json()["details"][0]["type"], "google.rpc.BadRequest");
    let version = rpc::post(&path("Get")).header("content-type", "application/json");
    let answer = send(at, version.header("connect-protocol-version", "2"), "{}").await;
    assert_eq!(error(&answer), is(400, "invalid_argument"));
    assert_eq!(seen.calls(), 0);
    let internal = json_call("Inner").header("authorization", format!("Bearer {}", lab::service_token()));
    assert_eq!(send(edge.at.internal, internal, "{}").await.status, 200);
}

#[tokio::test]
async fn an_upstream_that_is_down_is_unavailable_and_says_when_to_come_back() {
    let text = lab::config(support::nobody().await, "");
    let edge = support::Edge::with(&text, gateway::Options::default()).await;
    let answer = send(edge.at.public, json_call("Get"), "{}").await;
    assert_eq!((error(&answer), answer.header("retry-after")), (is(503, "unavailable"), "1"));
    assert_eq!(answer.json()["details"][0]["type"], "google.rpc.RetryInfo");
}

#[tokio::test]
async fn other_types_are_told_what_is_read() {
    let (edge, _upstream, _seen) = edge("").await;
    for (method, kind, expected) in [
        ("Get", "text/plain", "application/json or application/proto"),
        ("Get", "application/connect+json", "application/json or application/proto"),
        ("Get", "application/connect+thrift", "application/json or application/proto"),
        ("Watch", "application/json", "application/connect+json or application/connect+proto"),
    ] {
        let request = rpc::post(&path(method)).header("content-type", kind);
        let answer = send(edge.at.public, request, "{}").await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str().unwrap()),
            (415, "unsupported_media_type"),
            "{kind}"
        );
        assert!(answer.json()["detail"].as_str().unwrap().contains(expected), "{kind}");
    }
}

#[tokio::test]
async fn rest_keeps_its_own_errors() {
    let (edge, _upstream, _seen) = edge("").await;
    let rest = || rpc::post("/v1/lab:echo").header("content-type", "application/json");
    for request in [rest(), rest().header("connect-protocol-version", "1")] {
        let answer = send(edge.at.public, request, "{}").await;
        assert_eq!((answer.status, answer.header("content-type")), (401, "application/problem+json"));
    }
}

#[tokio::test]
async fn bodies_are_compressed_both_ways() {
    let (edge, _upstream, _seen) = edge("").await;
    let zipped = || {
        json_call("Get").header("content-encoding", "gzip").header("accept-encoding", "br;q=1, gzip;q=0.5")
    };
    let answer = send(edge.at.public, zipped(), gzip::compress(br#"{"text":"large"}"#)).await;
    assert_eq!(
        (answer.status, answer.header("content-encoding"), answer.header("vary")),
        (200, "gzip", "accept-encoding")
    );
    assert!(answer.body.len() < 200);
    let json: serde_json::Value =
        serde_json::from_slice(&gzip::decompress(&answer.body, 10_000).unwrap()).unwrap();
    assert_eq!(json["text"].as_str().unwrap().len(), 8000);
    let answer = send(edge.at.public, zipped(), gzip::compress(br#"{"text":"x"}"#)).await;
    assert_eq!((answer.header("content-encoding"), answer.json()), ("", json!({"text": "x"})), "too small");
    for accept in ["identity", "br", "gzip;q=0"] {
        let request = json_call("Get").header("accept-encoding", accept);
        let answer = send(edge.at.public, request, r#"{"text":"large"}"#).await;
        assert_eq!(answer.header("content-encoding"), "", "{accept}");
    }
    let empty = rpc::post(&path("Get"))
        .header("content-type", "application/proto")
        .header("content-encoding", "gzip");
    assert_eq!(send(edge.at.public, empty, "").await.status, 200, "nothing is never compressed");
}

#[tokio::test]
async fn a_bomb_does_not_pass() {
    let (edge, _upstream, seen) = edge("").await;
    let bomb = gzip::compress(&vec![b' '; 2 << 20]);
    assert!(bomb.len() < 10_000, "small enough to be read");
    let zipped = |kind: &str| {
        rpc::post(&path("Get"))
            .header("content-type", format!("application/{kind}"))
            .header("content-encoding", "gzip")
    };
    for kind in ["json", "proto"] {
        let answer = send(edge.at.public, zipped(kind), bomb.clone()).await;
        assert_eq!(error(&answer), is(429, "resource_exhausted"));
    }
    let small_bomb = gzip::compress(&vec![b' '; 20_000]);
    let query =
        format!("encoding=json&base64=1&compression=gzip&message={}", URL_SAFE_NO_PAD.encode(small_bomb));
    assert_eq!(error(&get(edge.at.public, "Peek", &query).await), is(429, "resource_exhausted"));
    let cut = send(edge.at.public, zipped("json"), gzip::compress(b"{}")[..8].to_vec()).await;
    assert_eq!(error(&cut), is(400, "invalid_argument"));
    let unknown = json_call("Get").header("content-encoding", "br");
    let answer = send(edge.at.public, unknown, "{}").await;
    assert_eq!(error(&answer), is(501, "unimplemented"));
    assert!(answer.json()["message"].as_str().unwrap().contains("supported are gzip and identity"));
    assert_eq!(seen.calls(), 0);
}

#[tokio::test]
async fn the_clients_deadline_is_enforced() {
    let (edge, _upstream, seen) = edge("").await;
    let started = Instant::now();
    let request = json_call("Get").header("connect-timeout-ms", "150");
    let answer = send(edge.at.public, request, r#"{"text":"hang"}"#).await;
    assert_eq!(error(&answer), is(504, "deadline_exceeded"));
    assert!((Duration::from_millis(150)..Duration::from_secs(2)).contains(&started.elapsed()));
    until(|| seen.cancelled().is_some()).await;
    for bad in ["", "1s", "-1", "12345678901"] {
        let answer = send(edge.at.public, json_call("Get").header("connect-timeout-ms", bad), "{}").await;
        assert_eq!(error(&answer), is(400, "invalid_argument"), "{bad}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_call() {
    let (edge, _upstream, seen) = edge("").await;
    for version in BOTH {
        let (calls, before) = (seen.calls(), seen.cancellations());
        let at = edge.at.public;
        let call = tokio::spawn(async move {
            rpc::whole(at, version, json_call("Get"), full(r#"{"text":"hang"}"#)).await.status
        });
        until(|| seen.calls() > calls).await;
        let left = Instant::now();
        call.abort();
        until(|| seen.cancellations() > before).await;
        assert!(left.elapsed() < Duration::from_millis(100));
    }
}

#[tokio::test]
async fn what_the_details_say_can_be_read_back() {
    let (edge, _upstream, _seen) = edge("").await;
    let answer = send(edge.at.public, json_call("Get"), r#"{"list":["a",2]}"#).await;
    let value = answer.json()["details"][0]["value"].as_str().unwrap().to_owned();
    let bad = base64::engine::general_purpose::STANDARD_NO_PAD.decode(value).unwrap();
    let text = String::from_utf8_lossy(&bad).into_owned();
    assert!(text.contains("list[1]") && text.contains("expected a string"), "{text}");
    assert_eq!(Details::default(), Details::from_status(b""));
}

#[tokio::test]
async fn a_client_that_sends_its_body_late_reads_why_it_was_refused() {
    use tokio::io::AsyncWriteExt;
    let (edge, _upstream, _seen) = edge("").await;
    for (method, kind, expected) in [
        ("Echo", "application/json", "401"),
        ("Watch", "application/json", "415"),
        ("Get", "application/grpc-web+json", "200"),
    ] {
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: HOST\r\ncontent-type: {kind}\r\ncontent-length: 20000\r\n\r\n",
            path(method)
        );
        let mut stream = support::open(edge.at.public, &head).await;
        let refusal = support::read_head(&mut stream).await;
        assert!(
            refusal.starts_with(&format!("HTTP/1.1 {expected}")) && !refusal.contains("connection: close"),
            "{refusal}"
        );
        stream.write_all(&[b' '; 20_000]).await.unwrap();
        let next = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", edge.at.public);
        stream.write_all(next.as_bytes()).await.unwrap();
        support::read_until(&mut stream, "HTTP/1.1 200 OK\r\n").await;
    }
}
