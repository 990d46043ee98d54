//! Sessions over WebSockets: both encodings over both kinds of HTTP, who connects, and what a handshake may not be.

use crate::{
    app::{App, edge},
    client::{Client, JSON, PATH, PROTO, hear_proto, say_proto, socket, socket_http2},
    support::{Edge, get, http2, open, read_head, send, token, within},
};
use futures_util::{SinkExt, StreamExt};
use http::Request;
use hub::proto::{Command, Connect, Payload, Publish, Subscribe, command, server_message};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

#[tokio::test]
async fn what_is_published_reaches_every_subscriber_in_order() {
    let edge = edge("").await;
    let app = App::attach(&edge).await;
    let (mut ann, mut bob) = (Client::new(edge.at.public).await, Client::new(edge.at.public).await);
    for client in [&mut ann, &mut bob] {
        let subscribed = client.subscribe("chat:lobby").await;
        assert_eq!(subscribed["kind"], "CHANNEL_KIND_STREAM", "{subscribed}");
    }
    for number in 0..20 {
        let reply = ann.publish("chat:lobby", json!({"number": number})).await;
        assert!(reply["published"].is_object(), "{reply}");
    }
    let expected: Vec<_> = (0..20).map(|number| json!({"number": number})).collect();
    assert_eq!(bob.published(20).await, expected);
    assert_eq!(ann.published(20).await, expected);
    assert_eq!(app.asks().len(), 2 + 2 + 20);
}

/// Connects, subscribes and publishes in protobuf, and hears it.
async fn talk_proto<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) {
    let commands = [
        command::Kind::Connect(Connect::default()),
        command::Kind::Subscribe(Subscribe { channel: "open:p".into(), ..Subscribe::default() }),
        command::Kind::Publish(Publish {
            channel: "open:p".into(),
            data: Some(Payload::binary(&b"\x00\xff"[..])),
            ..Publish::default()
        }),
    ];
    let mut heard = None;
    for (id, kind) in (1..).zip(commands) {
        say_proto(socket, Command { id, kind: Some(kind) }).await;
        let mut replied = false;
        while !replied {
            for message in hear_proto(socket).await {
                match message.kind.unwrap() {
                    server_message::Kind::Error(error) => panic!("{error:?}"),
                    server_message::Kind::Publications(it) => heard = it.publications.first().cloned(),
                    _ => replied |= message.id == id,
                }
            }
        }
    }
    while heard.is_none() {
        for message in hear_proto(socket).await {
            if let Some(server_message::Kind::Publications(it)) = message.kind {
                heard = it.publications.first().cloned();
            }
        }
    }
    assert_eq!(heard.unwrap().data, Some(Payload::binary(&b"\x00\xff"[..])));
}

#[tokio::test]
async fn both_encodings_work_over_both_kinds_of_http() {
    let edge = edge("").await;
    let _app = App::attach(&edge).await;
    talk_proto(&mut socket(edge.at.public, "", PROTO).await).await;
    talk_proto(&mut socket_http2(edge.at.public, PROTO).await).await;
    let mut client = Client::over(socket_http2(edge.at.public, JSON).await);
    assert!(client.ask(json!({"connect": {}})).await["connected"]["session"].is_string());
    client.subscribe("open:j").await;
    client.publish("open:j", json!("x".repeat(60_000))).await;
    assert_eq!(client.published(1).await, [json!("x".repeat(60_000))], "a frame of many pieces");
    within(client.socket.send(Message::Ping(vec![1].into()))).await.unwrap();
    assert_eq!(within(client.socket.next()).await.unwrap().unwrap(), Message::Pong(vec![1].into()));
    within(client.socket.close(None)).await.unwrap();
    assert!(matches!(within(client.socket.next()).await, Some(Ok(Message::Close(_))) | None));
}

async fn subject(edge: &Edge, query: &str, connect: serde_json::Value) -> serde_json::Value {
    let mut client = Client::over(socket(edge.at.public, query, JSON).await);
    client.ask(json!({"connect": connect})).await["connected"]["data"]["json"]["subject"].clone()
}

#[tokio::test]
async fn the_application_hears_who_connects() {
    let edge = edge("").await;
    let app = App::attach(&edge).await;
    let alice = token("alice", "notes");
    assert_eq!(subject(&edge, "", json!({})).await, "anonymous");
    assert_eq!(subject(&edge, &format!("?access_token={alice}"), json!({})).await, "alice");
    assert_eq!(subject(&edge, "", json!({"token": alice})).await, "alice");
    let actors: Vec<_> = app.asks().into_iter().map(|ask| ask.actor.unwrap()).collect();
    let known: Vec<_> = actors.iter().map(|actor| (actor.kind.as_str(), actor.scope.as_str())).collect();
    assert_eq!(known, [("anonymous", ""), ("user", "notes"), ("user", "notes")]);
    assert!(app.asks().iter().all(|ask| ask.traceparent.len() == 55), "each in a trace");
}

#[tokio::test]
async fn a_bad_token_is_refused_wherever_it_is() {
    let edge = edge("").await;
    let _app = App::attach(&edge).await;
    let answer = get(edge.at.public, &format!("{PATH}?access_token=x.y.z")).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "unauthenticated"));
    let (_client, reply) = Client::open(edge.at.public, json!({"token": "x.y.z"})).await;
    assert_eq!(reply["error"]["code"], "ERROR_CODE_UNAUTHENTICATED", "{reply}");
    let (_client, reply) = Client::open(edge.at.public, json!({"data": {"json": "no"}})).await;
    assert_eq!(reply["error"]["code"], "ERROR_CODE_PERMISSION_DENIED", "{reply}");
    assert_eq!(reply["error"]["reason"], "because");
}

#[tokio::test]
async fn access_can_be_the_gateways_to_decide() {
    let edge = edge("access = \"authenticated\"\nscopes = [\"chat\"]").await;
    let _app = App::attach(&edge).await;
    let refused = async |query: String| get(edge.at.public, &format!("{PATH}{query}")).await.code();
    assert_eq!(refused(String::new()).await, "unauthenticated");
    assert_eq!(refused(format!("?access_token={}", token("bob", "notes"))).await, "permission_denied");
    let good = format!("?access_token={}", token("alice", "chat"));
    assert_eq!(subject(&edge, &good, json!({})).await, "alice");
}

#[tokio::test]
async fn a_handshake_that_is_none_is_an_http_error() {
    let edge = edge("").await;
    let handshake = |name: &'static str, value: &'static str| {
        Request::get(PATH)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")
            .header(name, value)
    };
    let code = async |request| send(edge.at.public, request, "").await.code();
    assert_eq!(code(Request::get(PATH)).await, "invalid_argument");
    assert_eq!(code(Request::post(PATH)).await, "method_not_allowed");
    assert_eq!(code(handshake("origin", "https://evil.example")).await, "origin_not_allowed");
    assert_eq!(code(handshake("host", "evil.example")).await, "host_not_allowed");
    assert_eq!(code(handshake("sec-websocket-protocol", "graphql-ws")).await, "invalid_argument");
    let head = "GET /channels/v1/websocket HTTP/1.1\r\nhost: HOST\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\ncontent-length: 5\r\n\r\nhello";
    let mut stream = open(edge.at.public, head).await;
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 400"), "a body");
    assert_eq!(code(Request::get("/channels/v1/other")).await, "not_found");
    let mut client = http2::Client::new(edge.at.public).await;
    let answer = client.ask(PATH, &[("origin", "https://evil.example")]).await;
    assert_eq!(answer.status().as_u16(), 403);
    let answer = client.ask("/channels/v1/events?channel=open:a", &[]).await;
    assert_eq!(answer.status().as_u16(), 501, "no WebSocket there");
}
