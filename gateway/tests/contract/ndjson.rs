//! Streams as lines or an array by `accept`, and requests that are streams of lines.

use crate::lab;
use crate::lab::{Seen, read_text};
use crate::support;
use crate::support::{Answer, Edge, get, open, read_head, send, until, within, within_50_ms};
use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn edge(more: &str) -> (Edge, support::Upstream, Arc<Seen>) {
    let (upstream, seen) = lab::upstream().await;
    let edge = Edge::with(&lab::config(upstream.at, more), gateway::Options::default()).await;
    (edge, upstream, seen)
}

async fn accepting(edge: &Edge, path: &str, accept: &str) -> Answer {
    send(edge.at.public, Request::get(path).header("accept", accept), "").await
}

/// The documents of the lines that are not blank.
fn lines(body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn collect(edge: &Edge, text: &str, body: impl Into<bytes::Bytes>) -> Answer {
    let request =
        Request::post(format!("/v1/lab/{text}:collect")).header("content-type", "application/x-ndjson");
    send(edge.at.public, request, body).await
}

/// A conversation that has begun: its head has been written, and nothing of its body.
async fn converse(edge: &Edge) -> TcpStream {
    let head = "POST /v1/lab:converse HTTP/1.1\r\nhost: HOST\r\naccept: application/x-ndjson\r\n\
                content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
    open(edge.at.public, head).await
}

async fn say(stream: &mut TcpStream, text: &str) {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_stream_comes_as_lines_to_who_wants_lines() {
    let (edge, _upstream, _seen) = edge("").await;
    let answer = accepting(&edge, "/v1/lab:watch?text=t&number=3", "application/jsonl").await;
    assert_eq!(answer.headers["content-type"], "application/jsonl");
    assert_eq!(
        lines(&answer.body),
        [json!({"text": "t"}), json!({"text": "t", "number": 1}), json!({"text": "t", "number": 2})]
    );
    let empty = accepting(&edge, "/v1/lab:watch?text=t", "application/x-ndjson").await;
    assert_eq!((empty.status.as_u16(), empty.body.len()), (200, 0));
}

#[tokio::test]
async fn a_stream_comes_as_an_array_to_who_wants_json() {
    let (edge, _upstream, _seen) = edge("").await;
    let answer = accepting(&edge, "/v1/lab:watch?text=t&number=2", "application/json").await;
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.json(), json!([{"text": "t"}, {"text": "t", "number": 1}]));
    let empty = accepting(&edge, "/v1/lab:watch?text=t", "application/json").await;
    assert_eq!(empty.json(), json!([]));
}

#[tokio::test]
async fn a_later_failure_is_the_last_line_or_element() {
    let (edge, _upstream, _seen) = edge("").await;
    let answer = accepting(&edge, "/v1/lab:watch?text=fail&number=2", "application/x-ndjson").await;
    let lines = lines(&answer.body);
    assert_eq!((answer.status.as_u16(), lines.len()), (200, 3));
    assert_eq!(lines[2]["error"]["code"], "upstream_unavailable");
    assert_eq!(lines[2]["error"]["request_id"], answer.headers["x-request-id"].to_str().unwrap());
    let array = accepting(&edge, "/v1/lab:watch?text=fail&number=2", "application/json").await.json();
    assert_eq!((array.as_array().unwrap().len(), &array[2]["error"]["status"]), (3, &json!(503)));
    let early = accepting(&edge, "/v1/lab:watch?text=fail", "application/json").await;
    assert_eq!((early.status.as_u16(), early.code().as_str()), (503, "upstream_unavailable"));
}

#[tokio::test]
async fn a_silent_stream_beats_in_every_form_without_harm() {
    let more = "first_event = \"40ms\"\nheartbeat = \"30ms\"\nstream_idle = \"500ms\"";
    let (edge, _upstream, _seen) = edge(more).await;
    let answer = accepting(&edge, "/v1/lab:watch?text=hang", "application/x-ndjson").await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.starts_with("\n\n") && text.lines().filter(|line| line.is_empty()).count() >= 3, "{text}");
    assert_eq!(lines(&answer.body)[0]["error"]["code"], "gateway_timeout");
    let answer = accepting(&edge, "/v1/lab:watch?text=silent&number=1", "application/json").await;
    let (array, newlines) = (answer.json(), answer.body.iter().filter(|&&byte| byte == b'\n').count());
    assert_eq!((array.as_array().unwrap().len(), &array[1]["error"]["status"]), (2, &json!(504)));
    assert!(newlines >= 5, "{newlines}");
}

#[tokio::test]
async fn what_nobody_can_serve_is_406_and_says_what_can_be_had() {
    let (edge, _upstream, seen) = edge("").await;
    for (path, accept, offer) in [
        ("/v1/lab:watch?text=t", "text/html", "text/event-stream, application/x-ndjson or application/json"),
        ("/v1/lab:watch?text=t", "application/json;q=0", "application/x-ndjson"),
        ("/v1/lab/x", "text/event-stream", "one document: application/json"),
    ] {
        let answer = accepting(&edge, path, accept).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (406, "not_acceptable"), "{accept}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(offer), "{:?}", answer.body);
    }
    assert_eq!(seen.calls(), 0);
}

#[tokio::test]
async fn each_line_of_a_request_is_a_message() {
    let (edge, _upstream, _seen) = edge("").await;
    let answer =
        collect(&edge, "first", "{\"number\":1}\n\n  \r\n{\"text\":\"b\"}\r\n{\"text\":\"c\"}").await;
    assert_eq!(
        answer.json(),
        json!({"text": "first", "number": 3, "list": ["first", "b", "c"]}),
        "the path is in the first message alone"
    );
    let none = collect(&edge, "first", "").await;
    assert_eq!(none.json(), json!({}));
    let many = "{}\n".repeat(3000);
    assert_eq!(collect(&edge, "x", many).await.json()["number"], 3000);
}

#[tokio::test]
async fn one_document_is_a_stream_of_one_message_and_other_types_are_refused() {
    let (edge, _upstream, _seen) = edge("").await;
    let request = Request::post("/v1/lab/one:collect").header("content-type", "application/json");
    assert_eq!(send(edge.at.public, request, "{\n\"number\":\n1}").await.json()["number"], 1);
    let request = Request::post("/v1/lab/one:collect").header("content-type", "text/plain");
    let answer = send(edge.at.public, request, "{}").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (415, "unsupported_media_type"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("application/x-ndjson"));
}

#[tokio::test]
async fn a_bad_line_is_a_400_that_names_it_and_resets_the_call() {
    let (edge, _upstream, seen) = edge("").await;
    let answer = collect(&edge, "a", "{\"text\":\"a\"}\n\n{\"list\":[\"x\",7]}\n{}\n").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_argument"));
    assert_eq!(answer.json()["detail"], "Line 3 does not fit the contract.");
    let description = "expected a string, found a number";
    assert_eq!(answer.json()["errors"], json!([{"field": "list[1]", "description": description}]));
    let answer = collect(&edge, "a", "{}\n{\"text\"}\n").await;
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("Line 2 is not valid JSON: ") && detail.contains("column"), "{detail}");
    until(|| seen.cancelled().is_some()).await;
}

#[tokio::test]
async fn a_line_over_the_limit_is_refused_before_it_is_whole() {
    let (edge, _upstream, _seen) = edge("").await;
    let answer = collect(&edge, "a", format!("{{}}\n{{\"text\":\"{}\"}}\n", "x".repeat(10_000))).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (413, "body_too_large"));
    assert_eq!(answer.json()["detail"], "Line 2 exceeds 10000 bytes.");
}

#[tokio::test]
async fn the_upstreams_own_refusal_ends_the_request() {
    let (edge, _upstream, _seen) = edge("").await;
    let answer = collect(&edge, "refuse", "{}\n{}\n").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_argument"));
    assert_eq!(answer.json()["detail"], "not good");
}

#[tokio::test]
async fn both_directions_go_at_once() {
    let (edge, _upstream, _seen) = edge("").await;
    let mut stream = converse(&edge).await;
    say(&mut stream, "{\"text\":\"one\"}\n").await;
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/x-ndjson"), "{head}");
    read_text(&mut stream, "{\"text\":\"one\"}\n").await;
    for word in ["two", "three"] {
        say(&mut stream, &format!("{{\"text\":\"{word}\"}}\n")).await;
        read_text(&mut stream, &format!("{{\"text\":\"{word}\"}}\n")).await;
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    read_text(&mut stream, "0\r\n\r\n").await;
}

#[tokio::test]
async fn a_bad_line_in_a_conversation_is_its_last_line() {
    let (edge, _upstream, seen) = edge("").await;
    let mut stream = converse(&edge).await;
    say(&mut stream, "{\"text\":\"one\"}\n").await;
    read_text(&mut stream, "{\"text\":\"one\"}\n").await;
    say(&mut stream, "{\"nope\":1}\n").await;
    let rest = read_text(&mut stream, "0\r\n\r\n").await;
    assert!(rest.contains("{\"error\":{") && rest.contains("Line 2 does not fit"), "{rest}");
    assert!(rest.contains("\"field\":\"nope\""), "{rest}");
    until(|| seen.cancelled().is_some()).await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_request_cancels_the_call() {
    let head = "POST /v1/lab/a:collect HTTP/1.1\r\nhost: HOST\r\ncontent-type: application/x-ndjson\r\n\
                transfer-encoding: chunked\r\n\r\n3\r\n{}\n\r\n";
    let (edge, _upstream, seen) = edge("").await;
    for head in [head.to_owned(), head.replace("/a:collect", ":converse")] {
        within_50_ms(async || {
            let (before, cancelled) = (seen.messages(), seen.cancellations());
            let stream = open(edge.at.public, &head).await;
            until(|| seen.messages() == before + 1).await;
            let left = Instant::now();
            drop(stream);
            until(|| seen.cancellations() == cancelled + 1).await;
            seen.cancelled_after(left)
        })
        .await;
    }
}

#[tokio::test]
async fn a_request_that_falls_silent_is_ended() {
    let (edge, _upstream, seen) = edge("stream_idle = \"100ms\"\nheartbeat = \"20ms\"").await;
    let head = "POST /v1/lab/a:collect HTTP/1.1\r\nhost: HOST\r\ncontent-type: application/x-ndjson\r\n\
                transfer-encoding: chunked\r\n\r\n3\r\n{}\n\r\n";
    let mut stream = open(edge.at.public, head).await;
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 408"), "{head}");
    until(|| seen.cancellations() == 1).await;
    let mut stream = converse(&edge).await;
    // A conversation in which only the client speaks is not idle.
    say(&mut stream, "{\"text\":\"one\"}\n").await;
    let rest = read_text(&mut stream, "\"error\"").await;
    assert!(rest.contains("{\"text\":\"one\"}"), "{rest}");
    until(|| seen.cancellations() == 2).await;
}

#[tokio::test]
async fn a_request_is_read_no_faster_than_the_upstream_takes_it() {
    let (edge, _upstream, seen) = edge("").await;
    let head = "POST /v1/lab/ignore:collect HTTP/1.1\r\nhost: HOST\r\ncontent-type: application/x-ndjson\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let mut stream = open(edge.at.public, head).await;
    let line = format!("{{\"text\":\"{}\"}}\n", "x".repeat(8000));
    let chunk = format!("{:x}\r\n{line}\r\n", line.len());
    let mut written = 0;
    // Far more than all buffers on the way hold.
    while written < 64 << 20 {
        match tokio::time::timeout(Duration::from_millis(300), stream.write_all(chunk.as_bytes())).await {
            Ok(result) => result.unwrap(),
            Err(_) => break,
        }
        written += chunk.len();
    }
    assert!(written < 32 << 20, "{written} bytes went where nobody reads");
    assert_eq!(seen.calls(), 1);
}

#[tokio::test]
async fn the_deadline_ends_a_request_that_goes_on() {
    let (edge, _upstream, seen) = edge("").await;
    let head = "POST /v1/lab/a:collect HTTP/1.1\r\nhost: HOST\r\ncontent-type: application/x-ndjson\r\n\
                request-timeout: 0.2\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{}\n\r\n";
    let mut stream = open(edge.at.public, head).await;
    let mut answer = Vec::new();
    within(stream.read_buf(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 504"), "{:?}", String::from_utf8_lossy(&answer));
    until(|| seen.cancelled().is_some()).await;
}

#[tokio::test]
async fn events_carry_the_ids_of_their_messages_and_a_reader_resumes_after_the_last() {
    let (edge, _upstream, _seen) = edge("").await;
    let text = |answer: &Answer| String::from_utf8(answer.body.to_vec()).unwrap();
    let answer = get(edge.at.public, "/v1/lab:follow?count=2").await;
    assert!(
        text(&answer).starts_with("id: 1\ndata: {\"id\":\"1\",\"text\":\"tick\"}\n\nid: 2\n"),
        "{answer:?}"
    );
    let resume =
        |path: &str, id: &str| send(edge.at.public, Request::get(path).header("last-event-id", id), "");
    let answer = resume("/v1/lab:follow?count=1", "41").await;
    assert!(text(&answer).starts_with("id: 42\n"), "{answer:?}");
    let answer = resume("/v1/lab:follow?count=1&after=7", "41").await;
    assert!(text(&answer).starts_with("id: 8\n"), "what the client says itself counts: {answer:?}");
    let answer = resume("/v1/lab:follow?count=1", "soon").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["errors"][0]["field"].clone()),
        (400, json!("last-event-id"))
    );
    let answer = resume("/v1/lab:watch?text=t&number=1", "41").await;
    assert_eq!(answer.status.as_u16(), 200, "where the contract says nothing, the header means nothing");
    assert!(text(&answer).starts_with("data: "));
}

#[tokio::test]
async fn both_directions_go_at_once_on_http_2_and_a_reset_cancels_the_call() {
    let (edge, _upstream, seen) = edge("").await;
    let stream = TcpStream::connect(edge.at.public).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Result<Bytes, std::io::Error>>();
    let lines = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|line| (line.map(Frame::data), receiver))
    });
    let request = Request::post(format!("http://{}/v1/lab:converse", edge.at.public))
        .header("content-type", "application/x-ndjson")
        .header("accept", "text/event-stream")
        .body(StreamBody::new(Box::pin(lines)))
        .unwrap();
    sender.send(Ok("{\"number\":1}\n".into())).unwrap();
    let mut answer = within(client.send_request(request)).await.unwrap().into_body();
    for number in 1..=3 {
        let data = within(answer.frame()).await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(data, format!("data: {{\"number\":{number}}}\n\n"));
        sender.send(Ok(format!("{{\"number\":{}}}\n", number + 1).into())).unwrap();
    }
    // A body that fails resets its stream.
    sender.send(Err(std::io::Error::other("gone"))).unwrap();
    until(|| seen.cancellations() == 1).await;
}
