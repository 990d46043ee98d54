//! What delivery costs: publications of 256 bytes to 1,000 outboxes in memory, in batches of 1 and 10, read by nobody but
//! this loop. Prints deliveries per second of CPU time. Run: cargo run --release -p hub --example fan_out

use std::sync::Arc;
use std::time::{Duration, Instant};

use hub::proto::{
    AttachRequest, Command, Connect, Decision, Emit, Hello, Namespace, Payload, Subscribe, attach_request,
    command,
};
use hub::{Authenticate, Authenticated, Client, Denied, Hub, Identity, Link, Outbox, Settings, Wire};

struct Nobody;

impl Authenticate for Nobody {
    fn authenticate<'a>(&'a self, _token: &'a str) -> Authenticated<'a> {
        Box::pin(async { Err(Denied::Invalid) })
    }
}

const SUBSCRIBERS: usize = 1_000;
const FLUSHES: usize = 5_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for wire in [Wire::WebSocketJson, Wire::WebSocketProtobuf] {
        for batch in [1, 10] {
            run(wire, batch).await;
        }
    }
}

async fn run(wire: Wire, batch: usize) {
    // A batch is what is published before `flush` is over, so it is long where batches are wanted: then bytes decide.
    let settings = match batch {
        1 => Settings { flush: Duration::ZERO, ..Settings::default() },
        _ => {
            Settings { flush: Duration::from_secs(3_600), coalesce_bytes: 256 * batch, ..Settings::default() }
        }
    };
    let hub = Hub::new(settings, b"key", Arc::new(Nobody));
    let mut link = attach(&hub);
    let mut readers: Vec<_> = (0..SUBSCRIBERS).map(|_| subscriber(&hub, wire)).collect();
    let text = format!("\"{}\"", "x".repeat(254));
    let before = hub.stats().deliveries;
    let (start, cpu) = (Instant::now(), cpu());
    for _ in 0..FLUSHES {
        (0..batch).for_each(|_| emit(&mut link, &text));
        readers.iter_mut().for_each(|(_, outbox)| empty(outbox));
    }
    let delivered = (hub.stats().deliveries - before) as f64;
    println!(
        "{wire:?}, batches of {batch}: {:.1} M deliveries per CPU second, taken by their readers; wall {:.1} s",
        delivered / (self::cpu() - cpu).as_secs_f64() / 1e6,
        start.elapsed().as_secs_f64(),
    );
}

fn attach(hub: &Hub) -> Link {
    let (mut link, _) = hub.attach("bench");
    let namespace = Namespace {
        name: "chat".into(),
        kind: 2,
        subscribe: Decision::Allow.into(),
        publish: Decision::Allow.into(),
        ..Namespace::default()
    };
    let hello = Hello { version: 1, namespaces: vec![namespace], ..Hello::default() };
    // Nobody reads the welcome: the hub says so, after it has taken the hello.
    let _ = link.receive(AttachRequest { kind: Some(attach_request::Kind::Hello(hello)) });
    link
}

fn subscriber(hub: &Hub, wire: Wire) -> (Client, Outbox) {
    let (mut client, mut outbox) = hub.open(Identity::anonymous(), wire).expect("there is room");
    let subscribe = Subscribe { channel: "chat:lobby".into(), ..Subscribe::default() };
    for kind in [command::Kind::Connect(Connect::default()), command::Kind::Subscribe(subscribe)] {
        client.command(Command { id: 1, kind: Some(kind) }, "").expect("the connection is open");
    }
    empty(&mut outbox);
    (client, outbox)
}

fn empty(outbox: &mut Outbox) {
    let mut pieces = Vec::with_capacity(4);
    while outbox.take(&mut pieces, 1 << 20) {}
}

fn emit(link: &mut Link, text: &str) {
    let emit = Emit { channel: "chat:lobby".into(), data: Some(Payload::json(text)), ..Emit::default() };
    link.receive(AttachRequest { kind: Some(attach_request::Kind::Emit(emit)) }).expect("the link is open");
}

/// CPU time of this thread, the only one that works.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    Duration::from_nanos(stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}
