//! gRPC-Web through the gateway: both forms, over both versions of HTTP, and every way a call can end.

use crate::lab;
use crate::lab::Sample;
use crate::rpc;
use crate::rpc::{
    BOTH, Client, Content, Whole, bearer, edge, endless, framed, frames, full, pieces, sample, sending,
};
use crate::support;
use crate::support::until;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use prost::Message;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use transcode::status::Details;

const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";

fn call(method: &str) -> http::request::Builder {
    let service = if matches!(method, "Gather" | "Stall" | "Peek") { "Wire" } else { "Lab" };
    rpc::post(&format!("/lab.v1.{service}Service/{method}"))
}

fn web(method: &str) -> http::request::Builder {
    call(method).header("content-type", BINARY)
}

/// Messages, and the trailers: those of the body, or where there are none the head's.
fn read(answer: &Whole) -> (Vec<Sample>, HeaderMap) {
    assert_eq!(answer.status, 200);
    let body = match answer.header("content-type") {
        "application/grpc-web-text+proto" => decode_text(&answer.body),
        kind => {
            assert_eq!(kind, "application/grpc-web+proto");
            answer.body.clone()
        }
    };
    let mut frames = frames(&body);
    let trailers = match frames.pop() {
        Some((0x80, block)) => trailers(&block),
        None => answer.headers.clone(),
        other => panic!("ends with {other:?}"),
    };
    let message = |(flags, data): (u8, Bytes)| {
        assert_eq!(flags, 0);
        Sample::decode(data).unwrap()
    };
    (frames.into_iter().map(message).collect(), trailers)
}

/// As clients read it: padding may end any group.
fn decode_text(body: &[u8]) -> Bytes {
    body.chunks(4).flat_map(|group| STANDARD.decode(group).unwrap()).collect::<Vec<_>>().into()
}

fn trailers(block: &[u8]) -> HeaderMap {
    let text = std::str::from_utf8(block).unwrap();
    let line = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(name, name.to_lowercase());
        (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
    };
    text.split_terminator("\r\n").map(line).collect()
}

async fn send(to: SocketAddr, request: http::request::Builder, body: Content) -> (Vec<Sample>, HeaderMap) {
    read(&rpc::whole(to, Version::HTTP_11, request, body).await)
}

#[tokio::test]
async fn a_unary_call_passes_opaque_and_its_trailers_end_the_body() {
    let (edge, _upstream, seen) = edge("").await;
    for version in BOTH {
        let request = web("Echo")
            .header("authorization", bearer("lab"))
            .header("x-grpc-web", "1")
            .header("x-custom", "kept")
            .header("x-hybrid-identity", "forged")
            .header("grpc-timeout", "5S");
        let answer = rpc::whole(edge.at.public, version, request, full(framed("hello", 7))).await;
        assert!(answer.header("server-timing").ends_with("inference;dur=1.5"));
        assert!(!answer.headers.contains_key("grpc-status"), "it is in the body");
        let (messages, trailers) = read(&answer);
        assert_eq!(messages, [sample("hello", 7)]);
        assert_eq!(
            (&trailers["grpc-status"], &trailers["x-counted"]),
            (&"0".parse().unwrap(), &"yes".parse().unwrap())
        );
        let head = seen.last();
        assert_eq!(
            (&head["content-type"], &head["te"]),
            (&"application/grpc+proto".parse().unwrap(), &"trailers".parse().unwrap())
        );
        assert_eq!(head["x-custom"], "kept");
        assert!(!head.contains_key("authorization") && !head.contains_key("x-grpc-web"));
        assert!(head["x-hybrid-identity"].len() > 50, "the gateway's own");
        let micros: u64 = head["grpc-timeout"].to_str().unwrap().trim_end_matches('u').parse().unwrap();
        assert!((4_000_000..=5_000_000).contains(&micros), "{micros}");
    }
}

#[tokio::test]
async fn the_text_form_is_base64_both_ways_in_pieces_of_any_size() {
    let (edge, _upstream, _seen) = edge("").await;
    let text = STANDARD.encode(framed("hello", 3));
    for version in BOTH {
        for size in 1..=text.len() {
            let request = call("Watch").header("content-type", TEXT);
            let answer = rpc::whole(edge.at.public, version, request, pieces(text.as_bytes(), size)).await;
            assert_eq!(answer.header("content-type"), "application/grpc-web-text+proto");
            let (messages, trailers) = read(&answer);
            assert_eq!((messages.len(), &trailers["grpc-status"]), (3, &"0".parse().unwrap()));
        }
    }
}

#[tokio::test]
async fn frames_may_be_split_anywhere_on_either_side() {
    let (edge, _upstream, _seen) = edge("").await;
    let body = framed("split", 1);
    for size in 1..body.len() {
        let (messages, trailers) = send(edge.at.public, web("Get"), pieces(&body, size)).await;
        assert_eq!((messages, &trailers["grpc-status"]), (vec![sample("split", 1)], &"0".parse().unwrap()));
    }
}

#[tokio::test]
async fn messages_of_a_stream_come_as_they_are_made() {
    let (edge, _upstream, seen) = edge("").await;
    for (version, kind) in BOTH.into_iter().flat_map(|version| [(version, BINARY), (version, TEXT)]) {
        let mut client = Client::new(edge.at.public, version);
        let (body, whole) = match kind {
            TEXT => (
                STANDARD.encode(framed("silent", 2)).into(),
                2 * STANDARD.encode(framed("silent", 1)).len() - 8,
            ),
            _ => (framed("silent", 2), framed("silent", 0).len() + framed("silent", 1).len()),
        };
        let request = call("Watch").header("content-type", kind);
        let mut response = client.send(request, full(body)).await;
        rpc::read_until(response.body_mut(), |read| read.len() >= whole).await;
        let (left, before) = (Instant::now(), seen.cancellations());
        drop((response, client));
        until(|| seen.cancellations() > before).await;
        assert!(left.elapsed() < Duration::from_millis(100), "its leaving reached the upstream");
    }
}

#[tokio::test]
async fn streams_go_up_and_both_ways() {
    let (edge, _upstream, _seen) = edge("").await;
    let body = [framed("a", 0), framed("b", 0), framed("c", 0)].concat();
    for version in BOTH {
        let (messages, trailers) =
            read(&rpc::whole(edge.at.public, version, web("Gather"), pieces(&body, 5)).await);
        assert_eq!(
            (&messages[0].list[..], &trailers["grpc-status"]),
            (&["a", "b", "c"].map(String::from)[..], &"0".parse().unwrap())
        );
    }
    let (sender, body) = sending();
    sender.send(framed("x", 1)).unwrap();
    let mut client = Client::new(edge.at.public, Version::HTTP_2);
    let mut response = client.send(web("Converse"), body).await;
    for number in 1..=3 {
        let echoed = rpc::read_until(response.body_mut(), |read| read.len() >= framed("x", 1).len()).await;
        assert_eq!(echoed, framed("x", number));
        sender.send(framed("x", number + 1)).unwrap();
    }
    drop(sender);
    let rest = rpc::read_until(response.body_mut(), |read| read.windows(3).any(|w| w == b"yes")).await;
    let (flags, block) = frames(&rest).pop().unwrap();
    assert_eq!((flags, &trailers(&block)["grpc-status"]), (0x80, &"0".parse().unwrap()));
}

#[tokio::test]
async fn refusals_are_statuses_in_the_head() {
    let (edge, _upstream, seen) = edge("").await;
    for (method, status) in [("Echo", "16"), ("Inner", "12"), ("Unruled", "12"), ("Nothing", "12")] {
        for kind in [BINARY, TEXT] {
            let request = call(method).header("content-type", kind);
            let (messages, trailers) = send(edge.at.public, request, full(framed("x", 0))).await;
            assert_eq!((messages.len(), &trailers["grpc-status"]), (0, &status.parse().unwrap()), "{method}");
        }
    }
    let request = web("Echo").header("authorization", bearer("notes"));
    let (_, trailers) = send(edge.at.public, request, full(framed("x", 0))).await;
    assert_eq!(trailers["grpc-status"], "7");
    assert!(trailers["grpc-message"].to_str().unwrap().contains("lab"), "names the scope");
    let json = call("Get").header("content-type", "application/grpc-web+json");
    let (_, trailers) = send(edge.at.public, json, full("{}")).await;
    assert_eq!(trailers["grpc-status"], "3");
    assert!(trailers["grpc-message"].to_str().unwrap().contains("application/grpc-web+proto"));
    assert_eq!(seen.calls(), 0);
}

#[tokio::test]
async fn the_upstreams_status_and_details_pass() {
    let (edge, _upstream, _seen) = edge("").await;
    let (_, trailers) = send(edge.at.public, web("Get"), full(framed("refuse", 0))).await;
    assert_eq!(
        (&trailers["grpc-status"], &trailers["grpc-message"]),
        (&"3".parse().unwrap(), &"not%20good".parse().unwrap())
    );
    let details = Details::from_trailer(trailers["grpc-status-details-bin"].as_bytes());
    assert_eq!(details.violations[0].field, "list[0]");
    let (messages, trailers) = send(edge.at.public, web("Watch"), full(framed("fail", 2))).await;
    assert_eq!((messages.len(), &trailers["grpc-status"]), (2, &"14".parse().unwrap()), "after messages");
}

#[tokio::test]
async fn bodies_that_are_no_messages_say_what_is_wrong() {
    let (edge, _upstream, _seen) = edge("").await;
    let one = framed("x", 1);
    let twice = [&one[..], &one].concat();
    for (kind, body, status, message) in [
        (BINARY, one.slice(..4), "3", "ends inside a message"),
        (BINARY, one.slice(..one.len() - 1), "3", "ends inside a message"),
        (BINARY, Bytes::from_static(b"\x80\0\0\0\0"), "3", "the flags 0x80"),
        (BINARY, Bytes::from_static(b"\0\0\0\x4e\x20"), "8", "20000 bytes exceeds the limit of 10000"),
        (BINARY, twice.into(), "12", "exactly one message"),
        (BINARY, Bytes::new(), "12", "exactly one message"),
        (TEXT, Bytes::from_static(b"****"), "3", "not base64"),
        (TEXT, Bytes::from_static(b"AAA"), "3", "group of base64"),
    ] {
        for version in BOTH {
            let request = call("Get").header("content-type", kind);
            let answer = rpc::whole(edge.at.public, version, request, full(body.clone())).await;
            let (_, trailers) = read(&answer);
            let found = percent_decoded(&trailers["grpc-message"]);
            assert!(trailers["grpc-status"] == status && found.contains(message), "{body:?}: {trailers:?}");
        }
    }
}

fn percent_decoded(value: &HeaderValue) -> String {
    value.to_str().unwrap().replace("%20", " ")
}

#[tokio::test]
async fn messages_are_bounded_in_both_directions() {
    let (edge, _upstream, seen) = edge("").await;
    let large = framed(&"x".repeat(10_001), 0);
    for method in ["Get", "Gather", "Converse"] {
        let (messages, trailers) = send(edge.at.public, web(method), full(large.clone())).await;
        assert_eq!((messages.len(), &trailers["grpc-status"]), (0, &"8".parse().unwrap()), "{method}");
    }
    let (messages, trailers) = send(edge.at.public, web("Watch"), full(framed("huge", 1))).await;
    assert_eq!((messages.len(), &trailers["grpc-status"]), (1, &"8".parse().unwrap()));
    assert!(
        percent_decoded(&trailers["grpc-message"])
            .contains("exceeds 10000 bytes: raise the gateway's limits.body_bytes")
    );
    let many = (0..100).map(|_| framed(&"x".repeat(9000), 0)).collect::<Vec<_>>().concat();
    let (messages, _) = send(edge.at.public, web("Gather"), full(many)).await;
    assert!(messages.is_empty(), "a stream of them is not, but its answer is");
    assert!(seen.calls() >= 2);
}

#[tokio::test]
async fn the_deadline_holds_before_and_after_the_first_message() {
    let (edge, _upstream, seen) = edge("").await;
    for (text, number) in [("hang", 0), ("silent", 1), ("endless", 1)] {
        let before = seen.cancellations();
        let request = web("Watch").header("grpc-timeout", "150m");
        let (_, trailers) = send(edge.at.public, request, full(framed(text, number))).await;
        assert_eq!(trailers["grpc-status"], "4", "{text}");
        until(|| seen.cancellations() > before).await;
    }
}

#[tokio::test]
async fn a_stream_that_rests_or_lasts_too_long_is_ended() {
    // The other bound is far away: on a busy machine a stream may rest longer than it should.
    for (bounds, text, messages) in [
        ("stream_idle = \"100ms\"\nstream_max_age = \"30s\"", "silent", 1..=1),
        ("stream_idle = \"30s\"\nstream_max_age = \"300ms\"", "endless", 2..=100),
    ] {
        let (edge, _upstream, seen) = edge(bounds).await;
        let (found, trailers) = send(edge.at.public, web("Watch"), full(framed(text, 1))).await;
        assert!(messages.contains(&found.len()), "{}", found.len());
        assert_eq!(trailers["grpc-status"], "4");
        until(|| seen.cancellations() == 1).await;
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_never_leaves_half_a_message() {
    for (text, drops) in [("torn", true), ("cut", false), ("mute", false)] {
        let (edge, upstream, _seen) = edge("").await;
        let mut client = Client::new(edge.at.public, Version::HTTP_2);
        let mut response = client.send(web("Watch"), full(framed(text, 1))).await;
        let first = framed(text, 1).len();
        let mut all = rpc::read_until(response.body_mut(), |read| read.len() >= first).await.to_vec();
        if drops {
            assert_eq!(all.len(), first, "only whole messages pass");
            drop(upstream);
        }
        use http_body_util::BodyExt;
        all.extend_from_slice(&support::within(response.into_body().collect()).await.unwrap().to_bytes());
        let frames = frames(&all.into());
        assert_eq!((frames.len(), frames[0].0, frames[1].0), (2, 0, 0x80), "{text}");
        assert_eq!(trailers(&frames[1].1)["grpc-status"], "14", "{text}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_down_is_unavailable() {
    let edge =
        support::Edge::with(&lab::config(support::nobody().await, ""), gateway::Options::default()).await;
    let (_, trailers) = send(edge.at.public, web("Get"), full(framed("x", 1))).await;
    assert_eq!(trailers["grpc-status"], "14");
    let details = Details::from_trailer(trailers["grpc-status-details-bin"].as_bytes());
    assert_eq!(details.retry_delay, Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_back_the_upstream_and_is_left() {
    let (edge, _upstream, seen) = edge("stream_idle = \"1s\"").await;
    let stream = rpc::narrow(edge.at.public).await;
    let mut client = Client::new(edge.at.public, Version::HTTP_11);
    let sample = Sample { list: vec!["x".repeat(9000)], ..sample("flood", 100_000) };
    let body = full(lab::frame(&sample.encode_to_vec()));
    let mut response = client.send_over(stream, web("Watch"), body).await;
    let count = rpc::settled(&seen.produced).await;
    assert!(count < 1000, "{count} messages of 9 kB are somewhere");
    until(|| seen.cancellations() == 1).await;
    // What was written before is there; the end says that there would have been more.
    let rest = rpc::read_until(response.body_mut(), |read| {
        read[read.len().saturating_sub(200)..].windows(14).any(|w| w == b"grpc-status: 1")
    })
    .await;
    assert_eq!(frames(&rest).pop().unwrap().0, 0x80);
}

#[tokio::test]
async fn an_upstream_that_does_not_read_holds_back_the_client() {
    let (edge, _upstream, seen) = edge("").await;
    let (taken, body) = endless(framed(&"x".repeat(9000), 0));
    let mut client = Client::new(edge.at.public, Version::HTTP_2);
    let call = tokio::spawn(async move { client.send(web("Stall"), body).await.status() });
    until(|| seen.calls() == 1).await;
    let count = rpc::settled(&taken).await;
    assert!(count < 1000, "{count} messages of 9 kB are somewhere");
    call.abort();
    until(|| seen.cancelled().is_some()).await;
}

#[tokio::test]
async fn pages_of_other_origins_can_read_statuses_where_sharing_is_configured() {
    let (upstream, _seen) = lab::upstream().await;
    let public = "[public]\norigins = [\"https://app.example\"]\n[public.cors]\n[contracts]";
    let text = lab::config(upstream.at, "").replace("[contracts]", public);
    let edge = support::Edge::with(&text, gateway::Options::default()).await;
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri("/lab.v1.LabService/Get")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-grpc-web,x-user-agent");
    let answer = rpc::whole(edge.at.public, Version::HTTP_11, preflight, full("")).await;
    assert_eq!(answer.status, 204);
    for name in ["content-type", "x-grpc-web", "x-user-agent", "grpc-timeout", "connect-protocol-version"] {
        assert!(
            answer.header("access-control-allow-headers").split(", ").any(|found| found == name),
            "{name}"
        );
    }
    for text in ["x", "refuse"] {
        let request = web("Get").header("origin", "https://app.example");
        let answer = rpc::whole(edge.at.public, Version::HTTP_11, request, full(framed(text, 0))).await;
        let exposed = answer.header("access-control-expose-headers");
        for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
            assert!(exposed.split(", ").any(|found| found == name), "{exposed}");
        }
    }
    let request = web("Get").header("origin", "https://evil.example");
    let (_, trailers) = send(edge.at.public, request, full(framed("x", 0))).await;
    assert_eq!(trailers["grpc-status"], "7");
}
