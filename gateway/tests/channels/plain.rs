//! Publish and history as plain requests.

use crate::{
    app::{App, edge},
    client::Client,
    support::{Answer, Edge, get, get_as, send, token},
};
use http::Request;
use serde_json::{Value, json};

const PUBLISH: &str = "/channels/v1/publish";

async fn publish(edge: &Edge, token: Option<&str>, body: Value) -> Answer {
    let mut request = Request::post(PUBLISH).header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    send(edge.at.public, request, body.to_string()).await
}

#[tokio::test]
async fn a_plain_publish_reaches_subscribers_and_is_asked_about() {
    let edge = edge("").await;
    let app = App::attach(&edge).await;
    let mut client = Client::new(edge.at.public).await;
    client.subscribe("chat:a").await;
    let alice = token("alice", "");
    let body = json!({"channel": "chat:a", "data": {"json": {"text": "hi"}}, "key": "k1"});
    let answer = publish(&edge, Some(&alice), body.clone()).await;
    assert_eq!(answer.status.as_u16(), 200, "{:?}", answer.body);
    let position = answer.json()["position"].clone();
    assert!(position["offset"].is_string() && position["epoch"].is_string(), "{position}");
    assert_eq!(client.published(1).await, [json!({"text": "hi"})]);
    let again = publish(&edge, Some(&alice), body).await.json();
    assert_eq!((&again["duplicate"], &again["position"]), (&true.into(), &position));
    let ask = app.asks().pop().unwrap();
    assert_eq!(ask.actor.unwrap().subject, "alice");
}

#[tokio::test]
async fn history_is_read_a_page_at_a_time() {
    let edge = edge("").await;
    let _app = App::attach(&edge).await;
    for number in 0..5 {
        publish(&edge, None, json!({"channel": "open:a", "data": {"json": number}})).await;
    }
    let read = async |query: &str| {
        let answer = get(edge.at.public, &format!("/channels/v1/history?channel=open%3Aa{query}")).await;
        assert_eq!(answer.status.as_u16(), 200, "{:?}", answer.body);
        answer.json()
    };
    let first = read("&limit=2").await;
    assert_eq!((&first["found"], &first["more"]), (&true.into(), &true.into()), "{first}");
    let last = &first["publications"][1];
    assert_eq!(last["data"]["json"], 1);
    let (epoch, offset) = (first["top"]["epoch"].as_str().unwrap(), last["offset"].as_str().unwrap());
    let rest = read(&format!("&from.epoch={epoch}&from.offset={offset}")).await;
    let data: Vec<_> =
        rest["publications"].as_array().unwrap().iter().map(|it| &it["data"]["json"]).collect();
    assert_eq!(data, [2, 3, 4]);
    assert!(rest["more"] != true, "{rest}");
    let lost = read("&from.epoch=another&from.offset=1").await;
    assert!(lost["found"] != true && lost["publications"].is_null(), "{lost}");
}

#[tokio::test]
async fn errors_are_problem_documents() {
    let edge = edge("frame_bytes = 2000").await;
    let app = App::attach(&edge).await;
    let refused = async |body: Value| {
        let answer = publish(&edge, None, body).await;
        (answer.status.as_u16(), answer.code(), answer.json()["reason"].clone())
    };
    let (status, code, reason) = refused(json!({"channel": "chat:a", "data": {"json": "no"}})).await;
    assert_eq!((status, code.as_str(), &reason), (400, "invalid_argument", &"because".into()));
    let none = json!({"channel": "nothing:a", "data": {"json": 1}});
    assert_eq!(refused(none).await.0, 404);
    assert_eq!(refused(json!({"channel": 5})).await.0, 400);
    assert_eq!(refused(json!({"channel": "open:a", "data": {"json": "x".repeat(3_000)}})).await.0, 413);
    let text = Request::post(PUBLISH).header("content-type", "text/plain");
    assert_eq!(send(edge.at.public, text, "{}").await.status.as_u16(), 415);
    let code = async |path: &str| get(edge.at.public, path).await.code();
    assert_eq!(code("/channels/v1/history").await, "invalid_argument");
    assert_eq!(code("/channels/v1/history?channel=open:a&limit=x").await, "invalid_argument");
    assert_eq!(code("/channels/v1/history?chanel=open:a").await, "invalid_argument");
    assert_eq!(code("/channels/v1/history?channel=chat:private").await, "permission_denied");
    assert_eq!(code(PUBLISH).await, "method_not_allowed");
    let expired = get_as(edge.at.public, "/channels/v1/history?channel=open:a", "a.b.c").await;
    assert_eq!(expired.code(), "unauthenticated");
    drop(app);
}

#[tokio::test]
async fn without_an_application_a_plain_publish_says_when_to_come_back() {
    let edge = edge("ask_timeout = \"200ms\"").await;
    let app = App::attach(&edge).await;
    drop(app);
    let mut answer = publish(&edge, None, json!({"channel": "chat:a", "data": {"json": 1}})).await;
    // The link's end may come after the request.
    while answer.status.as_u16() == 200 {
        answer = publish(&edge, None, json!({"channel": "chat:a", "data": {"json": 1}})).await;
    }
    assert_eq!(answer.code(), "upstream_unavailable", "{:?}", answer.body);
    assert!(answer.headers.contains_key("retry-after"));
}
