//! The link: who may open it, what it must say, and what becomes of asks when it breaks.

use crate::{
    app::{App, decide, edge, hello, message, open, open_at, service_token},
    client::Client,
    support::{AI_SECRET, WEB_SECRET, token, until},
};
use hub::proto::{
    Acknowledge, AttachRequest, CallResult, Emit, Hello, Leaving, Payload, Revoke, answer, ask,
    attach_request, attach_response,
};
use serde_json::json;
use tonic::Code;

/// How a stream ends that says this first.
async fn status(edge: &crate::support::Edge, first: Option<AttachRequest>) -> tonic::Status {
    let service = service_token("web", WEB_SECRET);
    let (sender, mut messages) = open(edge, Some(&service)).await.unwrap();
    if let Some(first) = first {
        sender.send(first).await.unwrap();
    }
    drop(sender);
    crate::support::within(messages.message()).await.expect_err("a status")
}

#[tokio::test]
async fn only_the_configured_services_may_attach() {
    let edge = edge("").await;
    let refused = async |token: Option<&str>| open(&edge, token).await.unwrap_err().code();
    assert_eq!(refused(None).await, Code::Unauthenticated);
    assert_eq!(refused(Some(&token("alice", ""))).await, Code::Unauthenticated);
    assert_eq!(refused(Some(&service_token("web", AI_SECRET))).await, Code::Unauthenticated);
    let ai = open(&edge, Some(&service_token("ai", AI_SECRET))).await.unwrap_err();
    assert_eq!(ai.code(), Code::PermissionDenied);
    assert!(ai.message().contains("web"), "{ai}");
    let outside = open_at(edge.at.public, Some(&service_token("web", WEB_SECRET))).await.unwrap_err();
    assert!(matches!(outside.code(), Code::NotFound | Code::Unauthenticated), "{outside}");
}

#[tokio::test]
async fn misuse_gets_a_status_that_says_what_is_wrong() {
    let edge = edge("").await;
    let no_hello = status(&edge, Some(message(attach_request::Kind::Leaving(Leaving {})))).await;
    assert_eq!(no_hello.code(), Code::InvalidArgument);
    assert!(no_hello.message().to_lowercase().contains("hello"), "{no_hello}");
    let nothing = status(&edge, None).await;
    assert_eq!(nothing.code(), Code::InvalidArgument);
    assert!(nothing.message().contains("hello"), "{nothing}");
    let wrong = Hello { version: 7, ..hello() };
    let version = status(&edge, Some(message(attach_request::Kind::Hello(wrong)))).await;
    assert_eq!(version.code(), Code::InvalidArgument);
    assert!(version.message().contains('7') || version.message().contains("version"), "{version}");
}

#[tokio::test]
async fn what_was_asked_when_the_link_broke_is_asked_again_where_that_is_safe() {
    let edge = edge("").await;
    let first = App::with(&edge, hello(), |ask| match ask.kind {
        Some(ask::Kind::Connect(_)) => Some(decide(ask)),
        _ => None,
    })
    .await;
    let mut client = Client::new(edge.at.public).await;
    let safe = client.say(json!({"call": {"method": "test.read", "idempotent": true}})).await;
    let unsafe_one = client.say(json!({"call": {"method": "test.write"}})).await;
    let subscribe = client.say(json!({"subscribe": {"channel": "chat:a"}})).await;
    until(|| first.asks().len() == 4).await;
    drop(first);
    let lost = client.reply(unsafe_one).await;
    assert_eq!(lost["error"]["code"], "ERROR_CODE_UNAVAILABLE", "{lost}");
    let second = App::attach(&edge).await;
    let mut replies = vec![];
    while replies.len() < 2 {
        let message = client.push().await;
        if [safe, subscribe].iter().any(|id| message["id"] == *id) {
            replies.push(message);
        }
    }
    assert!(replies.iter().all(|reply| reply["error"].is_null()), "{replies:?}");
    let again = second.asks();
    assert!(again.len() == 2 && again.iter().all(|ask| ask.again), "{again:?}");
}

#[tokio::test]
async fn two_links_share_the_asks_and_one_that_leaves_gets_no_more() {
    let edge = edge("commands_per_second = 10000").await;
    let (first, second) = (App::attach(&edge).await, App::attach(&edge).await);
    let mut client = Client::new(edge.at.public).await;
    let call = json!({"call": {"method": "test.echo", "data": {"json": 1}}});
    for _ in 0..20 {
        assert_eq!(client.ask(call.clone()).await["result"]["data"]["json"], 1);
    }
    let (one, two) = (first.asks().len(), second.asks().len());
    assert!(one + two == 21 && one.abs_diff(two) <= 1, "{one} and {two}");
    first.say(attach_request::Kind::Leaving(Leaving {})).await;
    let end = first.ended().await;
    assert_eq!(end.code(), Code::Ok, "{end}");
    for _ in 0..10 {
        assert_eq!(client.ask(call.clone()).await["result"]["data"]["json"], 1);
    }
    assert_eq!(second.asks().len(), two + 10);
}

#[tokio::test]
async fn what_is_in_flight_is_answered_before_a_leaving_link_ends() {
    let edge = edge("").await;
    let app = App::with(&edge, hello(), |ask| match ask.kind {
        Some(ask::Kind::Connect(_)) => Some(decide(ask)),
        _ => None,
    })
    .await;
    let mut client = Client::new(edge.at.public).await;
    let call = client.say(json!({"call": {"method": "test.slow"}})).await;
    let ask = app.asked(|ask| matches!(ask.kind, Some(ask::Kind::Call(_)))).await;
    app.say(attach_request::Kind::Leaving(Leaving {})).await;
    let answer = CallResult { data: Some(Payload::json("7")) };
    app.answer(ask.id, answer::Kind::Call(answer)).await;
    assert_eq!(client.reply(call).await["result"]["data"]["json"], 7);
    assert_eq!(app.ended().await.code(), Code::Ok);
}

#[tokio::test]
async fn the_application_publishes_revokes_and_hears_who_left() {
    let edge = edge("presence_grace = \"50ms\"").await;
    let mut greeting = hello();
    greeting.namespaces[0].tell_left = true;
    let app = App::with(&edge, greeting, |ask| Some(decide(ask))).await;
    let mut client = Client::new(edge.at.public).await;
    client.subscribe("chat:a").await;
    let emit = |id| Emit {
        id,
        channel: "chat:a".into(),
        data: Some(Payload::json("\"from the application\"")),
        key: "k".into(),
        ..Emit::default()
    };
    for (id, duplicate) in [(1, false), (2, true)] {
        app.say(attach_request::Kind::Emit(emit(id))).await;
        let attach_response::Kind::Emitted(emitted) = app.other().await else { panic!("no answer") };
        assert_eq!((emitted.id, emitted.duplicate, emitted.error), (id, duplicate, None));
    }
    assert_eq!(client.published(1).await, ["from the application"]);
    app.say(attach_request::Kind::Revoke(Revoke { subject: "anonymous".into(), ..Revoke::default() })).await;
    assert_eq!(client.closed().await.0, 4503);
    let attach_response::Kind::Event(event) = app.other().await else { panic!("no event") };
    let sequence = event.sequence;
    app.say(attach_request::Kind::Acknowledge(Acknowledge { sequence })).await;
}
