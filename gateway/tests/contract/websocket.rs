//! Streaming methods over WebSockets: frames and messages, how they end, and every way it can go wrong.

use crate::lab;
use crate::lab::sockets::{closed, hear, hear_json, say};
use crate::lab::{Sample, Seen};
use crate::support;
use crate::support::{Edge, get, open, read_head, token, until, within, within_50_ms};
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

type Socket = WebSocketStream<TcpStream>;

async fn edge(more: &str) -> (Edge, support::Upstream, Arc<Seen>) {
    let (upstream, seen) = lab::upstream().await;
    let edge = Edge::with(&lab::config(upstream.at, more), gateway::Options::default()).await;
    (edge, upstream, seen)
}

async fn connect_with(edge: &Edge, path: &str, headers: &[(&'static str, &str)]) -> Socket {
    let mut request = format!("ws://{}{path}", edge.at.public).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(edge.at.public).await.unwrap();
    within(client_async(request, stream)).await.unwrap().0
}

async fn connect(edge: &Edge, path: &str) -> Socket {
    connect_with(edge, path, &[]).await
}

/// The problem in the last frame before the close, and the code.
async fn failed(socket: &mut Socket) -> (String, u16) {
    let document = hear_json(socket).await;
    assert!(document["error"]["request_id"].is_string(), "{document}");
    (document["error"]["code"].as_str().unwrap().to_owned(), closed(socket).await)
}

#[tokio::test]
async fn both_directions_go_at_once_until_the_client_has_said_all() {
    let (edge, _upstream, _seen) = edge("").await;
    let mut socket = connect(&edge, "/v1/lab:converse").await;
    for number in 1..=3 {
        say(&mut socket, &format!("{{\"text\":\"a\",\"number\":{number}}}")).await;
        assert_eq!(hear_json(&mut socket).await, json!({"text": "a", "number": number}));
    }
    say(&mut socket, "").await;
    assert_eq!(closed(&mut socket).await, 1000);
    assert!(within(socket.next()).await.is_none(), "and then the connection ends");
}

#[tokio::test]
async fn binary_frames_are_protobuf_both_ways() {
    let (edge, _upstream, _seen) = edge("").await;
    let sample = Sample { text: "b".into(), number: 7, list: vec![] };
    let mut socket = connect(&edge, "/v1/lab:converse").await;
    within(socket.send(Message::binary(sample.encode_to_vec()))).await.unwrap();
    assert_eq!(hear(&mut socket).await, Message::binary(sample.encode_to_vec()));
    within(socket.send(Message::binary(vec![]))).await.unwrap();
    assert_eq!(hear(&mut socket).await, Message::binary(vec![]), "an empty message, not the end");
    say(&mut socket, "").await;
    assert_eq!(closed(&mut socket).await, 1000);
}

#[tokio::test]
async fn the_subprotocol_says_how_messages_are_written() {
    let (edge, _upstream, _seen) = edge("").await;
    let path = "/v1/lab:watch?text=t&number=1";
    let mut socket = connect_with(&edge, path, &[("sec-websocket-protocol", "other, hybrid.proto")]).await;
    let sample = Sample { text: "t".into(), ..Sample::default() };
    assert_eq!(hear(&mut socket).await, Message::binary(sample.encode_to_vec()));
    let mut socket =
        connect_with(&edge, "/v1/lab:converse", &[("sec-websocket-protocol", "hybrid.json")]).await;
    within(socket.send(Message::binary(vec![]))).await.unwrap();
    assert_eq!(failed(&mut socket).await, ("invalid_argument".to_owned(), 1003));
}

#[tokio::test]
async fn path_and_query_are_the_first_message_where_there_is_no_body() {
    let (edge, _upstream, _seen) = edge("").await;
    let mut socket = connect(&edge, "/v1/lab:watch?text=t&number=2").await;
    assert_eq!(hear_json(&mut socket).await, json!({"text": "t"}));
    assert_eq!(hear_json(&mut socket).await, json!({"text": "t", "number": 1}));
    assert_eq!(closed(&mut socket).await, 1000);
}

#[tokio::test]
async fn many_frames_become_one_answer_with_the_path_in_the_first() {
    let (edge, _upstream, _seen) = edge("").await;
    for binary in [false, true] {
        let mut socket = connect(&edge, "/v1/lab/first:collect").await;
        for text in ["", "b"] {
            let sample = Sample { text: text.into(), ..Sample::default() };
            let frame = match binary {
                true => Message::binary(sample.encode_to_vec()),
                false => Message::text(json!({"text": text}).to_string()),
            };
            // In JSON, what the path says is not said again.
            let frame = if !binary && text.is_empty() { Message::text("{}") } else { frame };
            within(socket.send(frame)).await.unwrap();
        }
        say(&mut socket, "").await;
        let answer = hear(&mut socket).await;
        let list = match binary {
            true => Sample::decode(answer.into_data()).unwrap().list,
            false => serde_json::from_str::<Value>(answer.to_text().unwrap()).unwrap()["list"]
                .as_array()
                .unwrap()
                .iter()
                .map(|text| text.as_str().unwrap().to_owned())
                .collect(),
        };
        assert_eq!(list, ["first", "b"], "binary: {binary}");
        assert_eq!(closed(&mut socket).await, 1000);
    }
}

#[tokio::test]
async fn errors_before_the_upgrade_are_ordinary_problems() {
    let (edge, _upstream, seen) = edge("").await;
    let upgrade = "upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (path, headers, status) in [
        ("/v1/lab:mine?text=t", upgrade, "401"),
        ("/v1/lab:watch?number=x", upgrade, "400"),
        ("/v1/lab:watch?text=t", &upgrade.replace("13", "8"), "400"),
        ("/v1/lab:watch?text=t", &upgrade.replace("dGhl", "dG"), "400"),
        ("/v1/lab:watch?text=t", &format!("{upgrade}content-length: 1\r\n"), "413"),
        ("/v1/lab:echo", upgrade, "405"),
        ("/v1/nothing", upgrade, "404"),
    ] {
        let mut stream =
            open(edge.at.public, &format!("GET {path} HTTP/1.1\r\nhost: HOST\r\n{headers}\r\n")).await;
        let head = read_head(&mut stream).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {head}");
        assert!(head.contains("application/problem+json"), "{head}");
    }
    assert_eq!(seen.calls(), 0);
}

#[tokio::test]
async fn a_unary_method_is_no_socket_and_a_plain_get_no_upgrade() {
    let (edge, _upstream, _seen) = edge("").await;
    let upgrade = "upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut stream =
        open(edge.at.public, &format!("GET /v1/lab/x HTTP/1.1\r\nhost: HOST\r\n{upgrade}\r\n")).await;
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"), "the upgrade is not taken");
    assert_eq!(get(edge.at.public, "/v1/lab:converse").await.code(), "method_not_allowed");
}

#[tokio::test]
async fn a_browser_brings_its_token_in_the_query() {
    let (edge, _upstream, seen) = edge("").await;
    let mut socket =
        connect(&edge, &format!("/v1/lab:mine?text=t&number=1&access_token={}", token("alice", ""))).await;
    assert_eq!(hear_json(&mut socket).await, json!({"text": "t"}));
    assert!(seen.last().contains_key("x-hybrid-identity"));
}

#[tokio::test]
async fn what_the_upstream_refuses_is_a_last_frame_and_a_code() {
    let (edge, _upstream, _seen) = edge("").await;
    let mut socket = connect(&edge, "/v1/lab:watch?text=refuse").await;
    assert_eq!(failed(&mut socket).await, ("invalid_argument".to_owned(), 4400));
    let mut socket = connect(&edge, "/v1/lab:watch?text=fail&number=1").await;
    assert_eq!(hear_json(&mut socket).await, json!({"text": "fail"}));
    assert_eq!(failed(&mut socket).await, ("upstream_unavailable".to_owned(), 4503));
}

#[tokio::test]
async fn an_upstream_killed_in_the_middle_is_4502() {
    let (edge, upstream, _seen) = edge("").await;
    let mut socket = connect(&edge, "/v1/lab:watch?text=silent&number=1").await;
    hear(&mut socket).await;
    drop(upstream);
    assert_eq!(failed(&mut socket).await, ("bad_gateway".to_owned(), 4502));
}

#[tokio::test]
async fn a_frame_that_does_not_fit_names_its_field_and_resets_the_call() {
    let (edge, _upstream, seen) = edge("").await;
    let mut socket = connect(&edge, "/v1/lab:converse").await;
    say(&mut socket, r#"{"text":"a"}"#).await;
    hear(&mut socket).await;
    say(&mut socket, r#"{"number":"many"}"#).await;
    let document = hear_json(&mut socket).await;
    assert_eq!(document["error"]["errors"][0]["field"], "number");
    assert_eq!(closed(&mut socket).await, 4400);
    until(|| seen.cancelled().is_some()).await;
}

#[tokio::test]
async fn too_large_a_message_is_1009_and_bad_text_1007() {
    let (edge, _upstream, seen) = edge("").await;
    let mut socket = connect(&edge, "/v1/lab:converse").await;
    say(&mut socket, &format!(r#"{{"text":"{}"}}"#, "x".repeat(10_000))).await;
    assert_eq!(failed(&mut socket).await, ("body_too_large".to_owned(), 1009));
    let mut socket = connect(&edge, "/v1/lab:converse").await;
    // A masked text frame of one byte that is not UTF-8.
    socket.get_mut().write_all(&[0x81, 0x81, 0, 0, 0, 0, 0xff]).await.unwrap();
    assert_eq!(failed(&mut socket).await, ("invalid_argument".to_owned(), 1007));
    let mut socket = connect(&edge, "/v1/lab:converse").await;
    // A reserved opcode.
    socket.get_mut().write_all(&[0x83, 0x81, 0, 0, 0, 0, 0xff]).await.unwrap();
    assert_eq!(failed(&mut socket).await, ("invalid_argument".to_owned(), 1002));
    until(|| seen.cancellations() == 3).await;
}

#[tokio::test]
async fn messages_after_the_end_are_refused() {
    let (edge, _upstream, _seen) = edge("").await;
    let mut socket = connect(&edge, "/v1/lab:watch?text=silent&number=1").await;
    hear(&mut socket).await;
    say(&mut socket, "").await;
    say(&mut socket, r#"{"text":"more"}"#).await;
    assert_eq!(failed(&mut socket).await, ("invalid_argument".to_owned(), 4400));
}

/// How long after the client has left the upstream learns of it.
async fn cancelled_after(leave: impl AsyncFn(Socket)) -> Duration {
    let (edge, _upstream, seen) = edge("").await;
    for path in ["/v1/lab:watch?text=silent&number=1", "/v1/lab:watch?text=endless&number=1"] {
        let mut socket = connect(&edge, path).await;
        hear(&mut socket).await;
    }
    until(|| seen.cancellations() == 2).await;
    let mut socket = connect(&edge, "/v1/lab:converse").await;
    say(&mut socket, r#"{"text":"a"}"#).await;
    hear(&mut socket).await;
    let left = Instant::now();
    leave(socket).await;
    until(|| seen.cancellations() == 3).await;
    seen.cancelled_after(left)
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_call() {
    within_50_ms(async || cancelled_after(async |socket| drop(socket)).await).await;
}

#[tokio::test]
async fn a_client_that_says_goodbye_cancels_the_call_and_is_answered() {
    let goodbye = async |mut socket: Socket| {
        within(socket.close(None)).await.unwrap();
        assert!(matches!(hear(&mut socket).await, Message::Close(_)));
    };
    within_50_ms(async || cancelled_after(goodbye).await).await;
}

#[tokio::test]
async fn silence_is_pinged_and_ended_when_nothing_moves() {
    let (edge, _upstream, _seen) = edge("heartbeat = \"30ms\"\nstream_idle = \"250ms\"").await;
    let started = Instant::now();
    let mut socket = connect(&edge, "/v1/lab:converse").await;
    let mut pings = 0;
    let error = loop {
        match within(socket.next()).await.unwrap().unwrap() {
            Message::Ping(_) => pings += 1,
            frame => break frame,
        }
    };
    assert!(error.to_text().unwrap().contains("gateway_timeout"), "{error}");
    assert!(
        pings >= 3 && started.elapsed() >= Duration::from_millis(250),
        "{pings} in {:?}",
        started.elapsed()
    );
    assert_eq!(closed(&mut socket).await, 4504);
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_gone() {
    let (edge, _upstream, seen) = edge("heartbeat = \"40ms\"").await;
    let socket = connect(&edge, "/v1/lab:watch?text=silent&number=1").await;
    // Not polled: it neither reads nor answers.
    until(|| seen.cancelled().is_some()).await;
    drop(socket);
}

#[tokio::test]
async fn the_deadline_and_the_age_end_a_socket() {
    let (edge, _upstream, seen) = edge("stream_max_age = \"300ms\"").await;
    let mut aged = connect(&edge, "/v1/lab:converse").await;
    let mut timed = connect_with(&edge, "/v1/lab:converse", &[("request-timeout", "0.1")]).await;
    assert_eq!(failed(&mut timed).await, ("gateway_timeout".to_owned(), 4504));
    assert!(seen.last().contains_key("grpc-timeout"), "the upstream knows the budget");
    assert_eq!(failed(&mut aged).await, ("gateway_timeout".to_owned(), 4504));
}

#[tokio::test]
async fn a_drain_closes_sockets_with_1001_within_its_bound() {
    let (upstream, seen) = lab::upstream().await;
    let text = lab::config(upstream.at, "") + "[deadlines]\ndrain = \"400ms\"\n";
    let edge = Edge::with(&text, gateway::Options::default()).await;
    let mut socket = connect(&edge, "/v1/lab:converse").await;
    say(&mut socket, r#"{"text":"a"}"#).await;
    hear(&mut socket).await;
    let started = Instant::now();
    let stopping = tokio::spawn(edge.gateway.stop());
    say(&mut socket, r#"{"text":"b"}"#).await;
    assert_eq!(hear_json(&mut socket).await["text"], "b", "what runs goes on");
    assert_eq!(closed(&mut socket).await, 1001);
    assert!(within(socket.next()).await.is_none());
    within(stopping).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    until(|| seen.cancelled().is_some()).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_upstream_back_and_is_ended() {
    let (edge, _upstream, seen) = edge("stream_idle = \"400ms\"").await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(edge.at.public).await.unwrap();
    let request =
        format!("ws://{}/v1/lab:watch?text=endless&number=100000&list={}", edge.at.public, "x".repeat(2000));
    let (socket, _) = within(client_async(request, stream)).await.unwrap();
    until(|| seen.cancelled().is_some()).await;
    drop(socket);
}

#[tokio::test]
async fn frames_are_read_no_faster_than_the_upstream_takes_them() {
    let (edge, _upstream, _seen) = edge("heartbeat = \"50ms\"").await;
    let mut socket = connect(&edge, "/v1/lab/ignore:collect").await;
    let frame = format!(r#"{{"list":["{}"]}}"#, "x".repeat(9000));
    let mut sent = 0;
    while sent < 64 << 20 {
        match tokio::time::timeout(Duration::from_millis(300), socket.send(Message::text(frame.clone())))
            .await
        {
            Ok(result) => result.unwrap(),
            Err(_) => break,
        }
        sent += frame.len();
    }
    assert!(sent < 32 << 20, "{sent} bytes went where nobody reads");
}

#[tokio::test]
async fn open_sockets_are_counted_and_bounded() {
    let (upstream, _seen) = lab::upstream().await;
    let text = lab::config(upstream.at, "").replace("body_bytes = 10000", "body_bytes = 10000\ntunnels = 1");
    let edge = Edge::with(&text, gateway::Options::default()).await;
    let mut first = connect(&edge, "/v1/lab:converse").await;
    let metrics = String::from_utf8(get(edge.at.admin, "/metrics").await.body.to_vec()).unwrap();
    assert!(metrics.contains("gateway_websockets 1\n"), "{metrics}");
    let upgrade = "GET /v1/lab:converse HTTP/1.1\r\nhost: HOST\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut second = open(edge.at.public, upgrade).await;
    assert!(read_head(&mut second).await.starts_with("HTTP/1.1 503"));
    within(first.close(Some(tokio_tungstenite::tungstenite::protocol::CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    })))
    .await
    .unwrap();
    while let Some(Ok(_)) = within(first.next()).await {}
    let freed = async {
        loop {
            let mut again = open(edge.at.public, upgrade).await;
            if read_head(&mut again).await.starts_with("HTTP/1.1 101") {
                return;
            }
        }
    };
    within(freed).await;
}
