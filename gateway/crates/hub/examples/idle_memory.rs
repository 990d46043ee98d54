//! What an idle connection costs in the hub itself: resident bytes of 20,000 sessions with one subscription each, in one
//! channel and in one each. Run: cargo run --release -p hub --example idle_memory

use std::sync::Arc;

use hub::proto::{
    AttachRequest, Command, Connect, Decision, Hello, Namespace, Subscribe, attach_request, command,
};
use hub::{Authenticate, Authenticated, Denied, Hub, Identity, Kind, Settings, Wire};

struct Nobody;

impl Authenticate for Nobody {
    fn authenticate<'a>(&'a self, _token: &'a str) -> Authenticated<'a> {
        Box::pin(async { Err(Denied::Invalid) })
    }
}

const CONNECTIONS: usize = 20_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for (what, presence, own) in [
        ("one channel", false, false),
        ("one channel with presence", true, false),
        ("a channel each", false, true),
    ] {
        let before = resident();
        let hub = Hub::new(Settings::default(), b"key", Arc::new(Nobody));
        let (mut link, _told) = hub.attach("bench");
        let namespace = Namespace {
            name: "chat".into(),
            kind: 2,
            presence,
            subscribe: Decision::Allow.into(),
            ..Namespace::default()
        };
        let hello = Hello { version: 1, namespaces: vec![namespace], ..Hello::default() };
        link.receive(AttachRequest { kind: Some(attach_request::Kind::Hello(hello)) }).expect("a good hello");
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|index| {
                let channel = if own { format!("chat:room-{index}") } else { "chat:lobby".into() };
                open(&hub, index, channel)
            })
            .collect();
        let bytes = (resident() - before) / CONNECTIONS;
        println!("{what}: {bytes} bytes for each of {} sessions", connections.len());
        // What this run leaves free would flatter the next.
        std::mem::forget((connections, hub, link));
    }
}

fn open(hub: &Hub, index: usize, channel: String) -> (hub::Client, hub::Outbox) {
    let identity =
        Identity { subject: format!("user-{index}"), kind: Kind::User, scope: "notes".into(), expires: None };
    let (mut client, mut outbox) = hub.open(identity, Wire::WebSocketJson).expect("there is room");
    let subscribe = Subscribe { channel, ..Subscribe::default() };
    for kind in [command::Kind::Connect(Connect::default()), command::Kind::Subscribe(subscribe)] {
        client.command(Command { id: 1, kind: Some(kind) }, "").expect("the connection is open");
    }
    let mut pieces = vec![];
    while outbox.take(&mut pieces, usize::MAX) {}
    (client, outbox)
}

/// Resident bytes of this process.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kib: usize = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number");
    kib << 10
}
