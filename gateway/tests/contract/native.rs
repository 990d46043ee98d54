//! Native gRPC through the gateway: bodies and trailers untouched, access and deadline the gateway's.

use crate::lab;
use crate::lab::{Sample, Seen, frame, messages};
use crate::support;
use crate::support::{Edge, token, until, within, within_50_ms};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Instant};

type Content = BoxBody<Bytes, Infallible>;

async fn edge() -> (Edge, support::Upstream, Arc<Seen>) {
    let (upstream, seen) = lab::upstream().await;
    let edge = Edge::with(&lab::config(upstream.at, ""), gateway::Options::default()).await;
    (edge, upstream, seen)
}

async fn connect(to: SocketAddr) -> SendRequest<Content> {
    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn call(to: SocketAddr, method: &str) -> http::request::Builder {
    Request::post(format!("http://{to}/lab.v1.LabService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

fn one(text: &str, number: i32) -> Content {
    let sample = Sample { text: text.into(), number, list: vec![] };
    Full::new(frame(&sample.encode_to_vec())).boxed()
}

async fn send(to: SocketAddr, request: http::request::Builder, body: Content) -> Response<Incoming> {
    within(connect(to).await.send_request(request.body(body).unwrap())).await.unwrap()
}

/// Messages, and the trailers or (where there is only one head) the headers.
async fn whole(response: Response<Incoming>) -> (Vec<Sample>, HeaderMap) {
    let (head, body) = response.into_parts();
    let body = within(body.collect()).await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or(head.headers);
    (messages(&body.to_bytes()), trailers)
}

#[tokio::test]
async fn a_call_passes_opaque_with_metadata_trailers_and_identity() {
    let (edge, _upstream, seen) = edge().await;
    let request = call(edge.at.public, "Echo")
        .header("authorization", format!("Bearer {}", token("alice", "lab")))
        .header("x-custom", "kept")
        .header("x-hybrid-identity", "forged")
        .header("grpc-timeout", "5S");
    let response = send(edge.at.public, request, one("hello", 7)).await;
    assert_eq!(response.headers()["content-type"], "application/grpc");
    assert!(response.headers()["server-timing"].to_str().unwrap().ends_with("inference;dur=1.5"));
    let (messages, trailers) = whole(response).await;
    assert_eq!(messages, [Sample { text: "hello".into(), number: 7, list: vec![] }]);
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-counted"]),
        (&"0".parse().unwrap(), &"yes".parse().unwrap())
    );
    let head = seen.last();
    assert_eq!((&head["x-custom"], &head["te"]), (&"kept".parse().unwrap(), &"trailers".parse().unwrap()));
    assert!(!head.contains_key("authorization"));
    assert!(head["x-hybrid-identity"].len() > 50, "the gateway's own");
    let micros: u64 = head["grpc-timeout"].to_str().unwrap().trim_end_matches('u').parse().unwrap();
    assert!((4_000_000..=5_000_000).contains(&micros), "{micros}");
}

#[tokio::test]
async fn refusals_are_trailers_only_statuses() {
    let (edge, _upstream, seen) = edge().await;
    for (method, status) in [("Echo", "16"), ("Inner", "5"), ("Unruled", "5"), ("Nothing", "5")] {
        let (messages, trailers) =
            whole(send(edge.at.public, call(edge.at.public, method), one("x", 0)).await).await;
        assert!(messages.is_empty());
        assert_eq!(trailers["grpc-status"], status, "{method}");
    }
    assert_eq!(seen.calls(), 0);
}

#[tokio::test]
async fn a_service_reaches_internal_methods_through_the_internal_listener() {
    let (edge, _upstream, _seen) = edge().await;
    let request =
        call(edge.at.internal, "Inner").header("authorization", format!("Bearer {}", lab::service_token()));
    let (messages, trailers) = whole(send(edge.at.internal, request, one("x", 1)).await).await;
    assert_eq!((messages.len(), &trailers["grpc-status"]), (1, &"0".parse().unwrap()));
}

#[tokio::test]
async fn the_upstreams_own_status_passes_with_its_details() {
    let (edge, _upstream, _seen) = edge().await;
    let (_, trailers) =
        whole(send(edge.at.public, call(edge.at.public, "Get"), one("refuse", 0)).await).await;
    assert_eq!(
        (&trailers["grpc-status"], &trailers["grpc-message"]),
        (&"3".parse().unwrap(), &"not%20good".parse().unwrap())
    );
    assert!(trailers.contains_key("grpc-status-details-bin"));
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    let (edge, _upstream, _seen) = edge().await;
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    let received = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes| (Ok::<_, Infallible>(Frame::data(bytes)), receiver))
    });
    let body = StreamBody::new(received).boxed();
    let response = send(edge.at.public, call(edge.at.public, "Converse"), body);
    let message = |number| frame(&Sample { number, ..Sample::default() }.encode_to_vec());
    sender.send(message(1)).unwrap();
    let mut body = response.await.into_body();
    for number in 1..=3 {
        let data = within(body.frame()).await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(messages(&data)[0].number, number);
        sender.send(message(number + 1)).unwrap();
    }
    drop(sender);
    let rest = within(body.collect()).await.unwrap();
    assert_eq!(rest.trailers().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn a_reset_by_the_client_reaches_the_upstream() {
    within_50_ms(async || {
        let (edge, _upstream, seen) = edge().await;
        let mut response = send(edge.at.public, call(edge.at.public, "Watch"), one("silent", 1)).await;
        within(response.body_mut().frame()).await.unwrap().unwrap();
        let left = Instant::now();
        drop(response);
        until(|| seen.cancelled().is_some()).await;
        seen.cancelled_after(left)
    })
    .await;
}

#[tokio::test]
async fn the_deadline_holds_before_and_after_the_first_message() {
    let (edge, _upstream, seen) = edge().await;
    for body in [one("hang", 0), one("silent", 1)] {
        let request = call(edge.at.public, "Watch").header("grpc-timeout", "150m");
        let (_, trailers) = whole(send(edge.at.public, request, body).await).await;
        assert_eq!(trailers["grpc-status"], "4");
    }
    until(|| seen.cancelled().is_some()).await;
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_unavailable_in_trailers() {
    let (edge, upstream, _seen) = edge().await;
    let mut response = send(edge.at.public, call(edge.at.public, "Watch"), one("silent", 1)).await;
    within(response.body_mut().frame()).await.unwrap().unwrap();
    drop(upstream);
    let (_, trailers) = whole(response).await;
    assert_eq!(trailers["grpc-status"], "14");
    let (_, trailers) = whole(send(edge.at.public, call(edge.at.public, "Watch"), one("x", 1)).await).await;
    assert_eq!(trailers["grpc-status"], "14", "and while it is down");
}

#[tokio::test]
async fn too_large_a_message_is_refused() {
    let (edge, _upstream, _seen) = edge().await;
    let (_, trailers) =
        whole(send(edge.at.public, call(edge.at.public, "Get"), one(&"x".repeat(20_000), 0)).await).await;
    assert_eq!(trailers["grpc-status"], "8");
}

#[tokio::test]
async fn what_fails_between_messages_is_a_status() {
    let (edge, _upstream, _seen) = edge().await;
    for (text, status) in [("split", "0"), ("huge", "8")] {
        let response = send(edge.at.public, call(edge.at.public, "Watch"), one(text, 1)).await;
        let (messages, trailers) = whole(response).await;
        let expected = Sample { text: text.into(), number: 1, list: vec![] };
        assert_eq!(messages, [expected], "{text}: what is whole, and nothing of what is too large");
        assert_eq!(trailers["grpc-status"], status, "{text}");
    }
}

#[tokio::test]
async fn what_fails_inside_a_message_is_a_reset() {
    let (edge, _upstream, seen) = edge().await;
    // Half a message, and then nothing until the deadline.
    let request = call(edge.at.public, "Watch").header("grpc-timeout", "2S");
    let response = send(edge.at.public, request, one("torn", 1)).await;
    let error = within(response.into_body().collect()).await.expect_err("no trailers after half a message");
    let reason = format!("{error:?}");
    assert!(reason.contains("INTERNAL_ERROR"), "what gRPC's clients take for INTERNAL: {reason}");
    // Half a message, and then an end as if all were well. The reset may overtake the head.
    let request = call(edge.at.public, "Watch").body(one("cut", 1)).unwrap();
    match within(connect(edge.at.public).await.send_request(request)).await {
        Ok(response) => assert!(within(response.into_body().collect()).await.is_err()),
        Err(error) => assert!(format!("{error:?}").contains("INTERNAL_ERROR"), "{error:?}"),
    }
    assert_eq!(seen.calls(), 2);
}

#[tokio::test]
async fn an_upstream_killed_inside_a_message_is_a_reset() {
    let (edge, upstream, _seen) = edge().await;
    let mut response = send(edge.at.public, call(edge.at.public, "Watch"), one("torn", 1)).await;
    let mut data = 0;
    let whole = frame(&Sample { text: "torn".into(), number: 1, list: vec![] }.encode_to_vec()).len();
    while data <= whole {
        data += within(response.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap().len();
    }
    drop(upstream);
    assert!(within(response.into_body().collect()).await.is_err(), "and no trailers after half a message");
}

#[tokio::test]
async fn a_message_of_a_request_stream_is_bounded_too() {
    let (edge, _upstream, seen) = edge().await;
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    let received = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes| (Ok::<_, Infallible>(Frame::data(bytes)), receiver))
    });
    let response = send(edge.at.public, call(edge.at.public, "Converse"), StreamBody::new(received).boxed());
    let message = |text: &str| frame(&Sample { text: text.into(), ..Sample::default() }.encode_to_vec());
    // Ten of them are far more than one may be.
    let fitting = message(&"x".repeat(9000));
    sender.send(fitting.clone()).unwrap();
    let mut body = response.await.into_body();
    let mut echoed = 0;
    for _ in 0..10 {
        sender.send(fitting.clone()).unwrap();
    }
    while echoed < 11 * fitting.len() {
        echoed += within(body.frame()).await.unwrap().unwrap().into_data().unwrap().len();
    }
    sender.send(message(&"x".repeat(20_000))).unwrap();
    let rest = within(body.collect()).await.unwrap();
    assert_eq!(rest.trailers().unwrap()["grpc-status"], "8");
    until(|| seen.cancelled().is_some()).await;
}

#[tokio::test]
async fn a_stream_of_many_messages_arrives_whole_and_in_order() {
    let (edge, _upstream, _seen) = edge().await;
    let (messages, trailers) =
        whole(send(edge.at.public, call(edge.at.public, "Watch"), one("t", 5000)).await).await;
    assert_eq!(trailers["grpc-status"], "0");
    assert!(messages.iter().map(|message| message.number).eq(0..5000));
}
