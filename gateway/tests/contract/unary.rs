//! Unary methods as JSON: what reaches the upstream, what comes back, and every way it can fail.

use crate::lab;
use crate::support;
use crate::support::{AI_SECRET, Answer, Edge, get, nobody, parse, send, token, until};
use http::{Request, StatusCode};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

async fn edge() -> (Edge, support::Upstream, std::sync::Arc<lab::Seen>) {
    let (upstream, seen) = lab::upstream().await;
    let edge = Edge::with(&lab::config(upstream.at, ""), gateway::Options::default()).await;
    (edge, upstream, seen)
}

async fn echo(edge: &Edge, body: impl Into<bytes::Bytes>) -> Answer {
    let request = Request::post("/v1/lab:echo")
        .header("authorization", format!("Bearer {}", token("alice", "lab")))
        .header("content-type", "application/json");
    send(edge.at.public, request, body).await
}

#[tokio::test]
async fn json_becomes_a_message_and_the_answer_json() {
    let (edge, _upstream, seen) = edge().await;
    let answer = echo(&edge, r#"{"text":"hello","number":7,"list":["a","b"]}"#).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.json(), json!({"text": "hello", "number": 7, "list": ["a", "b"]}));
    let timing = answer.headers["server-timing"].to_str().unwrap();
    assert!(timing.contains("gateway;dur=") && timing.ends_with(", inference;dur=1.5"), "{timing}");
    let head = seen.last();
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&["ai"]);
    let identity = head["x-hybrid-identity"].to_str().unwrap();
    let key = DecodingKey::from_secret(AI_SECRET.as_bytes());
    let claims = jsonwebtoken::decode::<Value>(identity, &key, &validation).unwrap().claims;
    assert_eq!((&claims["sub"], &claims["kind"]), (&json!("alice"), &json!("user")));
    assert!(!head.contains_key("authorization"));
    assert_eq!(head["x-request-id"], answer.headers["x-request-id"]);
    assert!(head.contains_key("traceparent"));
    assert!(head["grpc-timeout"].to_str().unwrap().ends_with('u'));
    let timed = echo(&edge, r#"{"text":"timed"}"#).await;
    let timing = timed.headers["server-timing"].to_str().unwrap();
    assert!(timing.contains("gateway;dur=") && timing.ends_with(", inference;dur=9.5"), "{timing}");
}

#[tokio::test]
async fn path_and_query_become_fields() {
    let (edge, _upstream, _seen) = edge().await;
    let answer = get(edge.at.public, "/v1/lab/a%20b?number=3&list=x&list=y").await;
    assert_eq!(answer.json(), json!({"text": "a b", "number": 3, "list": ["x", "y"]}));
    let answer = send(edge.at.public, Request::head("/v1/lab/x"), "").await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 0));
    assert_eq!(answer.headers["content-length"], r#"{"text":"x"}"#.len().to_string());
}

#[tokio::test]
async fn what_does_not_fit_the_contract_names_its_field() {
    let (edge, _upstream, seen) = edge().await;
    for (body, field, description) in [
        (r#"{"nope":1}"#, "nope", "no such field in lab.v1.Sample"),
        (r#"{"list":["a",2]}"#, "list[1]", "expected a string, found a number"),
        (r#"{"number":"many"}"#, "number", "expected an integer, found \"many\""),
    ] {
        let answer = echo(&edge, body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_argument"), "{body}");
        assert_eq!(answer.json()["errors"], json!([{"field": field, "description": description}]));
    }
    let answer = echo(&edge, "{").await;
    assert_eq!(answer.code(), "invalid_argument");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("not valid JSON") && detail.contains("line 1 column 2"), "{detail}");
    let answer = get(edge.at.public, "/v1/lab/x?nope=1").await;
    assert_eq!(answer.json()["errors"][0]["field"], "nope");
    let request = Request::post("/v1/lab:echo")
        .header("authorization", format!("Bearer {}", token("alice", "lab")))
        .header("content-type", "text/plain");
    assert_eq!(send(edge.at.public, request, "{}").await.code(), "unsupported_media_type");
    assert_eq!(seen.calls(), 0, "none of them reached the upstream");
}

#[tokio::test]
async fn too_large_a_body_is_refused_stated_or_not() {
    let (edge, _upstream, seen) = edge().await;
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(10_000));
    let answer = echo(&edge, large.clone()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (413, "body_too_large"));
    let head = format!(
        "POST /v1/lab:echo HTTP/1.1\r\nhost: HOST\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        token("alice", "lab"),
        large.len()
    );
    let mut stream = support::open(edge.at.public, &head).await;
    assert!(support::read_head(&mut stream).await.starts_with("HTTP/1.1 413"));
    assert_eq!(seen.calls(), 0);
}

#[tokio::test]
async fn routes_and_methods_are_told_apart() {
    let (edge, _upstream, _seen) = edge().await;
    let answer = get(edge.at.public, "/v1/lab:echo").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (405, "method_not_allowed"));
    assert_eq!(answer.headers["allow"], "POST, OPTIONS");
    let answer = get(edge.at.public, "/v1/nothing/here").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "not_found"));
    let unruled = send(edge.at.public, Request::post("/v1/lab:unruled"), "{}").await;
    assert_eq!(unruled.code(), "not_found", "a method without an access rule");
    assert_eq!(get(edge.at.public, "/v1/lab:unruled").await.code(), "not_found", "nor a hint of it");
    let inner = send(edge.at.public, Request::post("/v1/lab:inner"), "{}").await;
    assert_eq!(inner.code(), "not_found", "an internal method, from outside");
    assert_eq!(get(edge.at.public, "/v1/lab:inner").await.code(), "not_found", "nor a hint of it");
    let service =
        || Request::post("/v1/lab:inner").header("authorization", format!("Bearer {}", lab::service_token()));
    assert_eq!(send(edge.at.internal, service(), "{}").await.status, StatusCode::OK);
    let anybody = send(edge.at.internal, Request::post("/v1/lab:inner"), "{}").await;
    assert_eq!(anybody.code(), "unauthenticated");
}

#[tokio::test]
async fn the_contracts_access_rule_is_enforced() {
    let (edge, _upstream, seen) = edge().await;
    let answer = send(edge.at.public, Request::post("/v1/lab:echo"), "{}").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "unauthenticated"));
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    let request =
        Request::post("/v1/lab:echo").header("authorization", format!("Bearer {}", token("bob", "notes")));
    let answer = send(edge.at.public, request, "{}").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "permission_denied"));
    assert_eq!(seen.calls(), 0);
}

#[tokio::test]
async fn the_upstreams_status_and_details_become_a_problem() {
    let (edge, _upstream, _seen) = edge().await;
    let answer = get(edge.at.public, "/v1/lab/refuse").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_argument"));
    assert_eq!(answer.json()["detail"], "not good");
    assert_eq!(answer.json()["errors"], json!([{"field": "list[0]", "description": "is empty"}]));
    assert_eq!(answer.headers["retry-after"], "3", "2.5 s, rounded up");
    let large = get(edge.at.public, "/v1/lab/huge").await;
    assert_eq!((large.status.as_u16(), large.code().as_str()), (502, "bad_gateway"));
    let detail = large.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains("10000 bytes") && detail.contains("raise the gateway's limits.body_bytes"),
        "{detail}"
    );
    let answer = get(edge.at.public, "/v1/lab/garbage").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "bad_gateway"));
}

#[tokio::test]
async fn an_upstream_that_is_down_is_503_and_is_used_again_when_it_is_back() {
    let address = nobody().await;
    let edge = Edge::with(&lab::config(address, ""), gateway::Options::default()).await;
    let answer = get(edge.at.public, "/v1/lab/x").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "upstream_unavailable"));
    assert_eq!(answer.headers["retry-after"], "1");
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let back = tokio::spawn(async move { listener.accept().await.is_ok() });
    let asked = async {
        while !back.is_finished() {
            let _ = tokio::time::timeout(Duration::from_millis(50), get(edge.at.public, "/v1/lab/x")).await;
        }
    };
    support::within(asked).await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_502_and_the_next_call_makes_another() {
    let broken = support::raw(|stream| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(stream);
    })
    .await;
    let edge = Edge::with(&lab::config(broken.at, ""), gateway::Options::default()).await;
    for _ in 0..3 {
        let answer = get(edge.at.public, "/v1/lab/x").await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "bad_gateway"));
    }
}

#[tokio::test]
async fn the_clients_deadline_is_passed_on_and_enforced() {
    let (edge, _upstream, seen) = edge().await;
    let started = Instant::now();
    let answer =
        send(edge.at.public, Request::get("/v1/lab/hang").header("request-timeout", "0.2"), "").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "gateway_timeout"));
    assert!((Duration::from_millis(200)..Duration::from_secs(2)).contains(&started.elapsed()));
    let timeout = seen.last()["grpc-timeout"].to_str().unwrap().to_owned();
    let micros: u64 = timeout.strip_suffix('u').unwrap().parse().unwrap();
    assert!((100_000..=200_000).contains(&micros), "{timeout}");
    until(|| seen.cancelled().is_some()).await;
}

#[tokio::test]
async fn more_calls_than_the_bound_are_refused() {
    let (upstream, seen) = lab::upstream().await;
    let text = lab::config(upstream.at, "").replace("health_interval", "requests = 1\nhealth_interval");
    let edge = Edge::with(&text, gateway::Options::default()).await;
    let held = support::open(edge.at.public, "GET /v1/lab/hang HTTP/1.1\r\nhost: HOST\r\n\r\n").await;
    until(|| seen.calls() == 1).await;
    let answer = get(edge.at.public, "/v1/lab/x").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "overloaded"));
    drop(held);
    until(|| seen.cancelled().is_some()).await;
    assert_eq!(get(edge.at.public, "/v1/lab/x").await.status, StatusCode::OK);
}

#[tokio::test]
async fn many_calls_at_once_all_come_back() {
    let (edge, _upstream, seen) = edge().await;
    let calls = (0..300).map(|number| {
        let to = edge.at.public;
        tokio::spawn(async move { get(to, &format!("/v1/lab/x?number={number}")).await })
    });
    for (number, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        let json = call.await.unwrap().json();
        assert_eq!(json.get("number").and_then(Value::as_u64).unwrap_or_default(), number as u64);
    }
    assert_eq!(seen.calls(), 300);
}

#[test]
fn contracts_that_cannot_work_are_refused_with_their_reason() {
    let address = "127.0.0.1:1".parse().unwrap();
    let refused = |text: &str| gateway::Gateway::check(parse(text)).unwrap_err().to_string();
    let text = refused(&lab::config(address, "").replace("\"lab.v1\" =", "\"lab.v9\" ="));
    assert!(text.contains("contracts.packages.\"lab.v9\"") && text.contains("no contract"), "{text}");
    let text = refused(&lab::config_of("/nowhere", address, ""));
    assert!(text.contains("contracts.paths") && text.contains("/nowhere"), "{text}");
}

#[tokio::test]
async fn documents_are_compressed_both_ways_where_the_client_says_so() {
    let (edge, _upstream, _seen) = edge().await;
    let document = json!({"text": "compress ".repeat(500)}).to_string();
    let request = || {
        Request::post("/v1/lab:echo")
            .header("authorization", format!("Bearer {}", token("alice", "lab")))
            .header("content-type", "application/json")
    };
    let gzipped = transcode::gzip::compress(document.as_bytes());
    let sent = request().header("content-encoding", "gzip").header("accept-encoding", "gzip, br");
    let answer = send(edge.at.public, sent, gzipped.clone()).await;
    assert_eq!(
        (&answer.headers["content-encoding"], &answer.headers["vary"]),
        (&"gzip".parse().unwrap(), &"accept-encoding".parse().unwrap())
    );
    assert!(answer.body.len() < 500);
    assert_eq!(transcode::gzip::decompress(&answer.body, 10_000).unwrap(), document.as_bytes());
    let plain = send(edge.at.public, request(), document.clone()).await;
    assert!(!plain.headers.contains_key("content-encoding"));
    assert_eq!(plain.body, document.as_bytes());
    let unknown = send(edge.at.public, request().header("content-encoding", "zstd"), gzipped).await;
    assert_eq!((unknown.status.as_u16(), unknown.code().as_str()), (415, "unsupported_media_type"));
    let bomb = transcode::gzip::compress(&vec![b' '; 20 << 20]);
    let refused = send(edge.at.public, request().header("content-encoding", "gzip"), bomb).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (413, "body_too_large"));
}

#[tokio::test]
async fn options_say_which_methods_a_path_has() {
    let (edge, _upstream, seen) = edge().await;
    for (path, allow) in [
        ("/v1/lab/x", "GET, HEAD, OPTIONS"),
        ("/v1/lab:watch", "GET, HEAD, POST, OPTIONS"),
        ("/v1/lab:echo", "POST, OPTIONS"),
    ] {
        let answer = send(edge.at.public, Request::options(path), "").await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0), "{path}");
        assert_eq!(answer.headers["allow"], allow, "{path}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "sharing is off");
        let other = send(edge.at.public, Request::builder().method("PROPFIND").uri(path), "").await;
        assert_eq!((other.status.as_u16(), &other.headers["allow"]), (405, &allow.parse().unwrap()));
    }
    for path in ["/v1/nothing", "/v1/lab:unruled", "/v1/lab:inner"] {
        assert_eq!(send(edge.at.public, Request::options(path), "").await.code(), "not_found", "{path}");
    }
    let foreign = Request::options("/v1/lab/x").header("origin", "http://evil.example");
    assert_eq!(send(edge.at.public, foreign, "").await.code(), "origin_not_allowed");
    assert_eq!(seen.calls(), 0, "the upstream is not asked");
}

#[tokio::test]
async fn head_is_get_without_its_content() {
    let (edge, _upstream, seen) = edge().await;
    let whole = get(edge.at.public, "/v1/lab/abc?number=7").await;
    // By hand, and two on one connection: content after the first head would be taken for the second.
    let ask = "HEAD /v1/lab/abc?number=7 HTTP/1.1\r\nhost: HOST\r\n\r\n";
    let mut stream = support::open(edge.at.public, &ask.repeat(2)).await;
    for _ in 0..2 {
        let head = support::read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains(&format!("content-length: {}\r\n", whole.body.len())), "{head}");
        assert!(head.contains("content-type: application/json\r\n"), "{head}");
    }
    assert_eq!(seen.calls(), 3, "the method is called, for its status counts");
    let refused = send(edge.at.public, Request::head("/v1/lab/refuse"), "").await;
    assert_eq!((refused.status.as_u16(), refused.body.len()), (400, 0));
    let stream = send(edge.at.public, Request::head("/v1/lab:watch?text=endless&number=1"), "").await;
    assert_eq!((stream.status.as_u16(), stream.body.len()), (200, 0));
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert_eq!(send(edge.at.public, Request::head("/v1/lab:echo"), "").await.status.as_u16(), 405);
}
