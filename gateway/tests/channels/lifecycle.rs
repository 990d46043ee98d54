//! Gateways that stop, start again and are configured anew.

use crate::{
    app::{App, config, edge, hello, open, service_token},
    client::{Client, PATH},
    faults::metric,
    support::{Edge, WEB_SECRET, get, until, within},
};
use futures_util::future::join_all;
use serde_json::json;
use std::{collections::BTreeSet, time::Instant};

#[tokio::test]
async fn a_drain_tells_every_client_to_come_back_at_a_time_of_its_own() {
    let edge = edge("").await;
    let app = App::attach(&edge).await;
    let mut clients = vec![];
    for _ in 0..40 {
        let mut client = Client::new(edge.at.public).await;
        client.subscribe("chat:a").await;
        clients.push(client);
    }
    let begun = Instant::now();
    let stopping = tokio::spawn(edge.gateway.stop());
    let ends = within(join_all(clients.into_iter().map(Client::closed))).await;
    let mut times = BTreeSet::new();
    for (code, reason) in ends {
        assert_eq!((code, &reason["code"]), (4000, &"DRAINING".into()));
        times.insert(reason["retry_after_ms"].as_u64().unwrap());
    }
    assert!(times.len() > 10, "spread: {times:?}");
    within(stopping).await.unwrap();
    assert!(begun.elapsed().as_secs_f32() < 4.0, "before the bound: {:?}", begun.elapsed());
    let end = app.ended().await;
    assert_eq!(end.code(), tonic::Code::Unavailable, "{end}");
}

#[tokio::test]
async fn another_gateway_takes_a_ticket_and_says_that_its_log_is_another() {
    let first = edge("").await;
    let app = App::attach(&first).await;
    let (mut client, connected) = Client::open(first.at.public, json!({})).await;
    let epoch = client.subscribe("chat:a").await["position"]["epoch"].clone();
    client.publish("chat:a", json!(1)).await;
    let first_ticket = connected["connected"]["ticket"]["ticket"].clone();
    let pushed = client.pushed.iter().find_map(|push| push["ticket"]["ticket"].as_str());
    let ticket = pushed.map_or(first_ticket, Into::into);
    drop(client);
    within(first.gateway.stop()).await;
    drop(app);
    let second = edge("").await;
    let app = App::attach(&second).await;
    let from = json!({"epoch": epoch, "offset": "1"});
    let resume = json!({"ticket": ticket, "resume": [{"channel": "chat:a", "from": from}]});
    let (_client, reply) = Client::open(second.at.public, resume).await;
    assert_eq!(reply["connected"]["resumed"], true, "{reply}");
    let back = &reply["connected"]["subscriptions"][0];
    assert!(back["error"].is_null() && back["recovered"] != true, "{reply}");
    assert_ne!(back["position"]["epoch"], epoch);
    assert!(app.asks().is_empty(), "a resume asks nobody");
}

#[tokio::test]
async fn a_reload_changes_limits_and_turns_channels_on_and_off() {
    let folder = std::env::temp_dir().join(format!("gateway-channels-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("gateway.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let off = config("").split("[channels]").next().unwrap().to_owned();
    write(&off);
    let options = gateway::Options { source: Some(file.clone()), ..Default::default() };
    let edge = Edge::with(&off, options).await;
    assert_eq!(get(edge.at.public, PATH).await.code(), "not_found");
    write(&config(""));
    edge.gateway.reload().await.unwrap();
    let _app = App::attach(&edge).await;
    let mut client = Client::new(edge.at.public).await;
    client.subscribe("open:a").await;
    write(&config("channels_per_connection = 1"));
    edge.gateway.reload().await.unwrap();
    let reply = client.ask(json!({"subscribe": {"channel": "open:b"}})).await;
    assert_eq!(reply["error"]["code"], "ERROR_CODE_LIMIT_EXCEEDED", "{reply}");
    write(&config("frame_bytes = 1"));
    let refused = edge.gateway.reload().await.unwrap_err();
    assert!(refused.contains("channels.frame_bytes: 1 is not valid"), "{refused}");
    write(&off);
    edge.gateway.reload().await.unwrap();
    assert_eq!(get(edge.at.public, PATH).await.code(), "not_found");
    assert!(client.ask(json!({"ping": {}})).await["pong"].is_object(), "what is open goes on");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn metrics_tell_what_happens() {
    let edge = edge("").await;
    let app = App::attach(&edge).await;
    let (mut ann, mut bob) = (Client::new(edge.at.public).await, Client::new(edge.at.public).await);
    ann.subscribe("open:a").await;
    bob.subscribe("open:a").await;
    ann.publish("open:a", json!(1)).await;
    bob.published(1).await;
    ann.published(1).await;
    for (name, value) in [
        ("connections", 2),
        ("sessions", 2),
        ("subscriptions", 2),
        ("channels", 1),
        ("links", 1),
        ("opened_total", 2),
        ("publications_total", 1),
        ("deliveries_total", 2),
        ("dropped_total", 0),
        ("asks_total{kind=\"connect\",outcome=\"answered\"}", 2),
    ] {
        assert_eq!(metric(&edge, &format!("gateway_channels_{name}")).await, value, "{name}");
    }
    drop(app);
    let handshakes = "gateway_requests_total{route=\"channels.websocket\",status=\"1xx\"}";
    assert_eq!(metric(&edge, handshakes).await, 2);
}

#[tokio::test]
async fn a_gateway_without_clients_stops_at_once_though_a_link_is_open() {
    let edge = edge("").await;
    let service = service_token("web", WEB_SECRET);
    let (sender, mut messages) = open(&edge, Some(&service)).await.unwrap();
    let hello = crate::app::message(hub::proto::attach_request::Kind::Hello(hello()));
    sender.send(hello).await.unwrap();
    within(messages.message()).await.unwrap();
    let begun = Instant::now();
    let stopping = tokio::spawn(edge.gateway.stop());
    assert_eq!(within(messages.message()).await.unwrap_err().code(), tonic::Code::Unavailable);
    drop((messages, sender));
    until(|| stopping.is_finished()).await;
    assert!(begun.elapsed().as_secs_f32() < 2.0, "{:?}", begun.elapsed());
}
