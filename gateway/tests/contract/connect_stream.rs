//! Connect's streams through the gateway: in both directions, compressed or not, and every way one can end.

use crate::lab;
use crate::lab::Sample;
use crate::rpc;
use crate::rpc::{
    BOTH, Client, Content, Whole, edge, endless, framed, frames, full, pieces, sample, sending,
};
use crate::support;
use crate::support::until;
use bytes::Bytes;
use http::Version;
use prost::Message;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use transcode::{envelope, gzip};

const JSON: &str = "application/connect+json";
const PROTO: &str = "application/connect+proto";

fn call(method: &str, kind: &str) -> http::request::Builder {
    let service = if matches!(method, "Gather" | "Stall") { "Wire" } else { "Lab" };
    rpc::post(&format!("/lab.v1.{service}Service/{method}"))
        .header("content-type", kind)
        .header("connect-protocol-version", "1")
}

fn json_message(value: &Value) -> Bytes {
    envelope::frame(0, value.to_string().as_bytes())
}

/// Messages, and what the last one says of the end.
fn read(answer: &Whole) -> (Vec<Sample>, Value) {
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    read_body(answer.header("content-type"), &answer.body)
}

fn read_body(kind: &str, body: &Bytes) -> (Vec<Sample>, Value) {
    let mut frames = frames(body);
    let (flags, end) = frames.pop().unwrap();
    assert_eq!(flags, 2, "{end:?}");
    let message = |(flags, data): (u8, Bytes)| {
        let data = if flags == 1 { gzip::decompress(&data, 100_000).unwrap().into() } else { data };
        match kind {
            JSON => {
                let json: Value = serde_json::from_slice(&data).unwrap();
                let number = json["number"].as_i64().unwrap_or_default().try_into().unwrap();
                let list =
                    json["list"].as_array().into_iter().flatten().map(|s| s.as_str().unwrap().to_owned());
                Sample {
                    text: json["text"].as_str().unwrap_or_default().into(),
                    number,
                    list: list.collect(),
                }
            }
            PROTO => Sample::decode(data).unwrap(),
            kind => panic!("{kind}"),
        }
    };
    (frames.into_iter().map(message).collect(), serde_json::from_slice(&end).unwrap())
}

fn message(kind: &str, text: &str, number: i32) -> Bytes {
    if kind == JSON { json_message(&json!({"text": text, "number": number})) } else { framed(text, number) }
}

async fn send(to: SocketAddr, request: http::request::Builder, body: Content) -> (Vec<Sample>, Value) {
    read(&rpc::whole(to, Version::HTTP_11, request, body).await)
}

fn code(end: &Value) -> &str {
    end["error"]["code"].as_str().unwrap_or("ok")
}

#[tokio::test]
async fn a_server_streams_in_both_codecs_over_both_versions_of_http() {
    let (edge, _upstream, seen) = edge("").await;
    for (version, kind) in BOTH.into_iter().flat_map(|version| [(version, JSON), (version, PROTO)]) {
        let request = call("Watch", kind).header("x-custom", "kept").header("connect-timeout-ms", "5000");
        let answer = rpc::whole(edge.at.public, version, request, full(message(kind, "t", 3))).await;
        assert_eq!(answer.header("content-type"), kind);
        assert!(answer.header("server-timing").ends_with("inference;dur=1.5"));
        let (messages, end) = read(&answer);
        assert_eq!(messages, [sample("t", 0), sample("t", 1), sample("t", 2)]);
        assert_eq!(end, json!({"metadata": {"x-counted": ["yes"]}}));
        let head = seen.last();
        assert_eq!(
            (&head["x-custom"], &head["content-type"]),
            (&"kept".parse().unwrap(), &"application/grpc+proto".parse().unwrap())
        );
        assert!(head["grpc-timeout"].to_str().unwrap().ends_with('u'));
    }
}

#[tokio::test]
async fn a_client_streams_in_envelopes_split_anywhere() {
    let (edge, _upstream, _seen) = edge("").await;
    for kind in [JSON, PROTO] {
        let body = [message(kind, "a", 1), message(kind, "b", 2), message(kind, "c", 3)].concat();
        for size in 1..body.len() {
            let version = BOTH[size % 2];
            let request = call("Gather", kind);
            let (messages, end) =
                read(&rpc::whole(edge.at.public, version, request, pieces(&body, size)).await);
            assert_eq!((messages.len(), messages[0].list.join("")), (1, "abc".to_owned()), "{kind} {size}");
            assert_eq!(code(&end), "ok");
        }
    }
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    let (edge, _upstream, _seen) = edge("").await;
    for kind in [JSON, PROTO] {
        let (sender, body) = sending();
        sender.send(message(kind, "x", 1)).unwrap();
        let mut client = Client::new(edge.at.public, Version::HTTP_2);
        let mut response = client.send(call("Converse", kind), body).await;
        for number in 1..=3 {
            let whole = |read: &[u8]| read.len() >= 5 && read.len() >= 5 + usize::from(read[4]);
            let echoed = rpc::read_until(response.body_mut(), whole).await;
            let (flags, data) = frames(&echoed).remove(0);
            assert_eq!(flags, 0);
            match kind {
                JSON => assert_eq!(
                    serde_json::from_slice::<Value>(&data).unwrap(),
                    json!({"text": "x", "number": number})
                ),
                _ => assert_eq!(Sample::decode(data).unwrap(), sample("x", number)),
            }
            sender.send(message(kind, "x", number + 1)).unwrap();
        }
        drop(sender);
        let rest = rpc::read_until(response.body_mut(), |read| read.ends_with(b"}}")).await;
        assert_eq!(read_body(kind, &rest).1, json!({"metadata": {"x-counted": ["yes"]}}));
    }
    let body = [message(JSON, "x", 1), message(JSON, "y", 2)].concat();
    let (messages, end) = send(edge.at.public, call("Converse", JSON), full(body)).await;
    assert_eq!(
        (messages, code(&end)),
        (vec![sample("x", 1), sample("y", 2)], "ok"),
        "one after the other over 1.1"
    );
}

#[tokio::test]
async fn messages_are_compressed_both_ways() {
    let (edge, _upstream, _seen) = edge("").await;
    for (text, flags) in [("large", 1), ("x", 0)] {
        let body = envelope::frame(1, &gzip::compress(&sample(text, 1).encode_to_vec()));
        let request = call("Watch", PROTO)
            .header("connect-content-encoding", "gzip")
            .header("connect-accept-encoding", "br, gzip");
        let answer = rpc::whole(edge.at.public, Version::HTTP_11, request, full(body)).await;
        assert_eq!(
            (answer.header("connect-content-encoding"), answer.header("connect-accept-encoding")),
            ("gzip", "gzip")
        );
        assert_eq!(frames(&answer.body)[0].0, flags, "{text}");
        let (messages, end) = read(&answer);
        assert_eq!((messages.len(), code(&end)), (1, "ok"));
    }
    let mixed = [
        envelope::frame(1, &gzip::compress(br#"{"text":"a"}"#)),
        message(JSON, "b", 0),
        envelope::frame(1, b""),
    ];
    let request = call("Gather", JSON).header("connect-content-encoding", "gzip");
    let (messages, _) = send(edge.at.public, request, full(mixed.concat())).await;
    assert_eq!(messages[0].list, ["a", "b", ""]);
}

#[tokio::test]
async fn errors_end_the_stream_in_its_last_message() {
    let (edge, _upstream, _seen) = edge("").await;
    let (messages, end) = send(edge.at.public, call("Watch", JSON), full(message(JSON, "fail", 2))).await;
    assert_eq!(
        (messages.len(), code(&end), &end["metadata"]["x-counted"]),
        (2, "unavailable", &json!(["yes"]))
    );
    for method in ["Echo", "Mine"] {
        let request = call(method, JSON);
        let answer = rpc::whole(edge.at.public, Version::HTTP_11, request, full(message(JSON, "x", 0))).await;
        let (messages, end) = read(&answer);
        assert_eq!((messages.len(), code(&end)), (0, "unauthenticated"), "{method}");
    }
    for method in ["Unruled", "Nothing"] {
        let answer = rpc::whole(edge.at.public, Version::HTTP_11, call(method, JSON), full("")).await;
        assert_eq!(answer.status, 404, "{method}: which clients read as unimplemented");
    }
    let edge =
        support::Edge::with(&lab::config(support::nobody().await, ""), gateway::Options::default()).await;
    let (_, end) = send(edge.at.public, call("Watch", PROTO), full(framed("x", 1))).await;
    assert_eq!(
        (code(&end), &end["error"]["details"][0]["type"]),
        ("unavailable", &json!("google.rpc.RetryInfo"))
    );
}

#[tokio::test]
async fn an_upstreams_status_alone_keeps_its_details() {
    let (edge, _upstream, _seen) = edge("").await;
    let (messages, end) = send(edge.at.public, call("Watch", JSON), full(message(JSON, "refuse", 0))).await;
    assert_eq!(
        (messages.len(), code(&end), &end["error"]["message"]),
        (0, "invalid_argument", &json!("not good"))
    );
    let types: Vec<_> =
        end["error"]["details"].as_array().unwrap().iter().map(|detail| &detail["type"]).collect();
    assert_eq!(types, ["google.rpc.BadRequest", "google.rpc.RetryInfo"]);
}

#[tokio::test]
async fn bodies_that_are_no_messages_say_what_is_wrong() {
    let (edge, _upstream, _seen) = edge("").await;
    let one = message(JSON, "x", 1);
    let zipped = envelope::frame(1, &gzip::compress(b"{}"));
    let bomb = envelope::frame(1, &gzip::compress(&vec![b' '; 2 << 20]));
    for (method, encoding, body, expected, says) in [
        ("Watch", "identity", one.slice(..one.len() - 1), "invalid_argument", "ends inside a message"),
        ("Watch", "identity", Bytes::from_static(b"\x02\0\0\0\x02{}"), "invalid_argument", "the flags 0x02"),
        (
            "Watch",
            "identity",
            Bytes::from_static(b"\0\xff\xff\xff\xff"),
            "resource_exhausted",
            "limit of 10000",
        ),
        ("Watch", "identity", [&one[..], &one].concat().into(), "unimplemented", "exactly one message"),
        ("Watch", "identity", Bytes::new(), "unimplemented", "exactly one message"),
        ("Watch", "identity", zipped.clone(), "invalid_argument", "without connect-content-encoding"),
        ("Watch", "gzip", envelope::frame(1, b"no"), "invalid_argument", "not valid gzip"),
        ("Watch", "gzip", bomb.clone(), "resource_exhausted", "limit of 10000"),
        ("Converse", "gzip", bomb, "resource_exhausted", "limit of 10000"),
        ("Watch", "br", one.clone(), "unimplemented", "gzip and identity"),
        ("Watch", "identity", json_message(&json!({"nope": 1})), "invalid_argument", "does not fit"),
        (
            "Gather",
            "identity",
            [&one[..], b"\0\0\0\0\x01{"].concat().into(),
            "invalid_argument",
            "not valid JSON",
        ),
    ] {
        for version in BOTH {
            let request = call(method, JSON).header("connect-content-encoding", encoding);
            let (_, end) = read(&rpc::whole(edge.at.public, version, request, full(body.clone())).await);
            let found = end["error"]["message"].as_str().unwrap_or_default();
            assert!(code(&end) == expected && found.contains(says), "{method} {body:?}: {end}");
        }
    }
}

#[tokio::test]
async fn a_mistake_after_the_first_answers_ends_the_stream_too() {
    let (edge, _upstream, seen) = edge("").await;
    let (sender, body) = sending();
    sender.send(message(JSON, "x", 1)).unwrap();
    let mut client = Client::new(edge.at.public, Version::HTTP_2);
    let mut response = client.send(call("Converse", JSON), body).await;
    rpc::read_until(response.body_mut(), |read| read.len() > 5).await;
    sender.send(json_message(&json!({"nope": 1}))).unwrap();
    let rest =
        rpc::read_until(response.body_mut(), |read| read.first() == Some(&2) && read.ends_with(b"}")).await;
    let (_, end) = read_body(JSON, &rest);
    assert_eq!(
        (code(&end), &end["error"]["details"][0]["type"]),
        ("invalid_argument", &json!("google.rpc.BadRequest"))
    );
    until(|| seen.cancelled().is_some()).await;
    drop(sender);
}

#[tokio::test]
async fn time_limits_hold_on_streams() {
    let (edge, _upstream, seen) = edge("stream_idle = \"200ms\"\nstream_max_age = \"600ms\"").await;
    for (text, number, timeout) in
        [("hang", 0, "100"), ("silent", 1, "100"), ("silent", 1, ""), ("endless", 1, "")]
    {
        let before = seen.cancellations();
        let mut request = call("Watch", JSON);
        if !timeout.is_empty() {
            request = request.header("connect-timeout-ms", timeout);
        }
        let (messages, end) = send(edge.at.public, request, full(message(JSON, text, number))).await;
        assert_eq!(code(&end), "deadline_exceeded", "{text}");
        assert!(messages.len() >= usize::try_from(number).unwrap());
        until(|| seen.cancellations() > before).await;
    }
    let (sender, body) = sending();
    sender.send(message(JSON, "x", 1)).unwrap();
    let mut client = Client::new(edge.at.public, Version::HTTP_2);
    let mut response = client.send(call("Converse", JSON), body).await;
    let before = seen.cancellations();
    rpc::read_until(response.body_mut(), |read| read.ends_with(b"}}")).await;
    until(|| seen.cancellations() > before).await;
    assert!(sender.is_closed() || sender.send(Bytes::new()).is_ok(), "the client's half was still open");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_call_in_both_directions() {
    let (edge, _upstream, seen) = edge("").await;
    for (version, method) in [(BOTH[0], "Watch"), (BOTH[1], "Watch"), (BOTH[1], "Converse")] {
        let before = seen.cancellations();
        let (sender, body) = sending();
        sender.send(message(JSON, "silent", 1)).unwrap();
        let mut client = Client::new(edge.at.public, version);
        let mut response = match method {
            "Watch" => client.send(call(method, JSON), full(message(JSON, "silent", 1))).await,
            _ => client.send(call(method, JSON), body).await,
        };
        rpc::read_until(response.body_mut(), |read| read.len() > 5).await;
        let left = Instant::now();
        drop((response, client));
        until(|| seen.cancellations() > before).await;
        assert!(left.elapsed() < Duration::from_millis(100), "{version:?} {method}");
        drop(sender);
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_or_says_too_much_ends_in_an_error() {
    for (text, expected, before) in [
        ("huge", "resource_exhausted", 1),
        ("cut", "unavailable", 1),
        ("mute", "unavailable", 1),
        ("garbage", "ok", 1),
    ] {
        let (edge, _upstream, _seen) = edge("").await;
        let (messages, end) = send(edge.at.public, call("Watch", PROTO), full(framed(text, 1))).await;
        assert_eq!((messages.len(), code(&end)), (before, expected), "{text}");
    }
    let (edge, upstream, _seen) = edge("").await;
    let mut client = Client::new(edge.at.public, Version::HTTP_2);
    let mut response = client.send(call("Watch", JSON), full(message(JSON, "torn", 1))).await;
    rpc::read_until(response.body_mut(), |read| read.len() > 5).await;
    drop(upstream);
    let rest =
        rpc::read_until(response.body_mut(), |read| read.first() == Some(&2) && read.ends_with(b"}}")).await;
    assert_eq!(code(&read_body(JSON, &rest).1), "unavailable");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_back_the_upstream_and_is_left() {
    let (edge, _upstream, seen) = edge("stream_idle = \"1s\"").await;
    let stream = rpc::narrow(edge.at.public).await;
    let mut client = Client::new(edge.at.public, Version::HTTP_11);
    let sample = Sample { list: vec!["x".repeat(9000)], ..sample("flood", 100_000) };
    let body = full(lab::frame(&sample.encode_to_vec()));
    let response = client.send_over(stream, call("Watch", PROTO), body).await;
    let count = rpc::settled(&seen.produced).await;
    assert!(count < 1000, "{count} messages of 9 kB are somewhere");
    until(|| seen.cancellations() == 1).await;
    drop(response);
}

#[tokio::test]
async fn an_upstream_that_does_not_read_holds_back_the_client() {
    let (edge, _upstream, seen) = edge("").await;
    let (taken, body) = endless(message(JSON, &"x".repeat(9000), 0));
    let mut client = Client::new(edge.at.public, Version::HTTP_2);
    let call = tokio::spawn(async move { client.send(call("Stall", JSON), body).await.status() });
    until(|| seen.calls() == 1).await;
    let count = rpc::settled(&taken).await;
    assert!(count < 1000, "{count} messages of 9 kB are somewhere");
    call.abort();
    until(|| seen.cancelled().is_some()).await;
}
