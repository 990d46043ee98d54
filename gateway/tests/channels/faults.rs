//! Clients that misbehave: none of them costs the others anything.

use crate::{
    app::{App, edge},
    client::{Client, JSON, socket},
    hand::{ByHand, TEXT, frame},
    support::{get, within},
};
use futures_util::SinkExt;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

/// A metric's value on the admin listener.
pub async fn metric(edge: &crate::support::Edge, name: &str) -> u64 {
    let text = get(edge.at.admin, "/metrics").await.body;
    let text = String::from_utf8(text.to_vec()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
}

/// A connection that has connected and subscribed, and then never reads.
async fn deaf(at: std::net::SocketAddr, channel: &str) -> ByHand {
    let mut socket = ByHand::new(at).await;
    let subscribe =
        json!({"commands": [{"id": 1, "connect": {}}, {"id": 2, "subscribe": {"channel": channel}}]});
    socket.write(&frame(TEXT, subscribe.to_string().as_bytes())).await;
    loop {
        let (_, content) = socket.read().await;
        let reply: Value = serde_json::from_slice(&content).unwrap();
        let messages = reply["messages"].as_array().unwrap();
        if messages.iter().any(|message| message["id"] == 2) {
            return socket;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_closed_and_delays_nobody() {
    let limits = "outbox_bytes = 131072\nwrite_timeout = \"1s\"\ncommands_per_second = 100000\n\
                  publications_per_second = 100000\nchannel_publications_per_second = 100000";
    let edge = edge(limits).await;
    let _app = App::attach(&edge).await;
    let _deaf = deaf(edge.at.public, "open:a").await;
    let (mut reader, mut writer) = (Client::new(edge.at.public).await, Client::new(edge.at.public).await);
    reader.subscribe("open:a").await;
    let data = "x".repeat(30_000);
    let mut sent = 0;
    // More than the kernel's buffers hold, until the deaf one is gone.
    while metric(&edge, "gateway_channels_connections").await == 3 {
        let reply = writer.publish("open:a", json!(format!("{sent} {data}"))).await;
        assert!(reply["published"].is_object(), "{reply}");
        sent += 1;
        let got = &reader.published(1).await[0];
        assert!(got.as_str().unwrap().starts_with(&format!("{} ", sent - 1)), "in order, and none missing");
        assert!(sent < 5_000, "it is still there");
    }
    assert!(reader.ask(json!({"ping": {}})).await["pong"].is_object());
}

#[tokio::test]
async fn a_client_that_floods_is_closed() {
    let edge = edge("commands_per_second = 5").await;
    let _app = App::attach(&edge).await;
    let mut client = Client::new(edge.at.public).await;
    let ping = json!({"ping": {}});
    let mut refused = false;
    for _ in 0..100 {
        let reply = client.ask(ping.clone()).await;
        if reply["error"].is_object() {
            assert_eq!(reply["error"]["code"], "ERROR_CODE_RATE_LIMITED", "{reply}");
            assert!(reply["error"]["retryAfterMs"].as_u64().is_some_and(|millis| millis > 0), "{reply}");
            refused = true;
            break;
        }
    }
    assert!(refused);
    let frame = json!({"commands": vec![ping; 50]}).to_string();
    for _ in 0..20 {
        if client.socket.send(Message::text(frame.clone())).await.is_err() {
            break;
        }
    }
    let (code, reason) = client.closed().await;
    assert_eq!((code, &reason["code"]), (4005, &"FLOOD".into()));
}

#[tokio::test]
async fn a_silent_client_is_closed() {
    let edge = edge("heartbeat = \"200ms\"").await;
    let _app = App::attach(&edge).await;
    let client = Client::new(edge.at.public).await;
    assert_eq!(client.closed().await.0, 4002);
    let idle = socket(edge.at.public, "", JSON).await;
    drop(idle);
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing() {
    let edge = edge("").await;
    let _app = App::attach(&edge).await;
    let mut client = Client::new(edge.at.public).await;
    client.subscribe("chat:a").await;
    assert_eq!(metric(&edge, "gateway_channels_connections").await, 1);
    drop(client);
    within(async {
        while metric(&edge, "gateway_channels_connections").await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn more_connections_than_allowed_get_a_problem() {
    let edge = edge("connections = 1").await;
    let _app = App::attach(&edge).await;
    let client = Client::new(edge.at.public).await;
    let answer = get(edge.at.public, "/channels/v1/events?channel=open:a").await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "overloaded"));
    assert!(answer.headers.contains_key("retry-after"));
    drop(client);
}
