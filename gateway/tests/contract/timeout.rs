//! Methods whose contract says how long a call may take.

use crate::{
    lab,
    rpc::{edge, framed, full, post, whole},
    support::{Edge, get, parse, send, until},
};
use http::{HeaderMap, Request, Version};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// The budget that the upstream was told.
fn told(head: &HeaderMap) -> Duration {
    let text = head["grpc-timeout"].to_str().unwrap();
    let (number, unit) = text.split_at(text.len() - 1);
    let number = number.parse().unwrap();
    if unit == "u" { Duration::from_micros(number) } else { Duration::from_millis(number) }
}

#[tokio::test]
async fn a_short_bound_ends_a_call_before_the_configured_one() {
    let (edge, _upstream, seen) = edge("").await;
    let started = Instant::now();
    let answer = get(edge.at.public, "/v1/timeout/hang:brief").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "gateway_timeout"));
    let took = started.elapsed();
    assert!((Duration::from_millis(250)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert!(told(&seen.last()) <= Duration::from_millis(250));
    until(|| seen.cancelled().is_some()).await;
    let stream = get(edge.at.public, "/v1/timeout:watch?text=endless&number=1").await;
    let text = String::from_utf8(stream.body.to_vec()).unwrap();
    assert!(text.contains("event: error") && text.contains("gateway_timeout"), "{text}");
}

#[tokio::test]
async fn a_long_bound_gives_more_than_the_configured_one() {
    let (upstream, seen) = lab::upstream().await;
    let text = lab::config(upstream.at, "") + "[deadlines]\nresponse = \"100ms\"\n";
    let edge = Edge::with(&text, gateway::Options::default()).await;
    assert_eq!(get(edge.at.public, "/v1/timeout/x:patient").await.status.as_u16(), 200);
    assert!(told(&seen.last()) > Duration::from_secs(50), "{:?}", told(&seen.last()));
    // The client's own can only shorten it.
    let started = Instant::now();
    let request = Request::get("/v1/timeout/hang:patient").header("request-timeout", "0.4");
    assert_eq!(send(edge.at.public, request, "").await.status.as_u16(), 504);
    assert!(started.elapsed() >= Duration::from_millis(400), "past what is configured");
    let request = Request::get("/v1/timeout/x:patient").header("request-timeout", "600");
    assert_eq!(send(edge.at.public, request, "").await.status.as_u16(), 200);
    assert!(told(&seen.last()) <= Duration::from_secs(60));
}

#[tokio::test]
async fn it_holds_in_every_protocol() {
    let (edge, _upstream, _seen) = edge("").await;
    let call = |content_type: &str| post("/lab.v1.TimeoutService/Brief").header("content-type", content_type);
    let at = edge.at.public;
    let native = whole(at, Version::HTTP_2, call("application/grpc"), full(framed("hang", 0))).await;
    assert_eq!(native.header("grpc-status"), "4");
    let web = whole(at, Version::HTTP_11, call("application/grpc-web"), full(framed("hang", 0))).await;
    assert_eq!(web.header("grpc-status"), "4");
    let connect = whole(at, Version::HTTP_11, call("application/json"), full(r#"{"text":"hang"}"#)).await;
    assert_eq!((connect.status, connect.json()["code"].as_str().unwrap()), (504, "deadline_exceeded"));
}

#[tokio::test]
async fn the_document_says_it() {
    let (edge, _upstream, _seen) = edge("").await;
    let document = get(edge.at.public, "/openapi.json").await.json();
    let description = |path: &str| document["paths"][path]["get"]["description"].as_str();
    assert_eq!(description("/v1/timeout/{text}:brief"), Some("A call ends after 0.25 seconds at most."));
    assert_eq!(description("/v1/lab/{text}"), None);
}

#[test]
fn a_bound_above_the_configured_maximum_is_refused_by_file_and_line() {
    let at = SocketAddr::from(([127, 0, 0, 1], 9));
    let check = |more: &str| gateway::Gateway::check(parse(&lab::config(at, more)));
    assert!(check("max_timeout = \"60s\"").is_ok());
    let error = check("max_timeout = \"59s\"").unwrap_err().to_string();
    assert_eq!(
        error,
        "timeout.proto:17: lab.v1.TimeoutService.Patient: hybrid.options.v1.timeout: max_seconds is 60: \
         expected at most 59, which is contracts.max_timeout"
    );
}
