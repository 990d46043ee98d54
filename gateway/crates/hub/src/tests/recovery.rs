//! Subscribers miss nothing and get nothing twice, whenever they come, go, stall and resume.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;

use crate::proto::{
    ChannelKind, Connect, Emit, Payload, Position, Resume, attach_request, command, server_message,
};
use crate::testing::{
    App, Peer, app, app_with, connected, error_code, hello, hub, hub_with, peer, publish, random::Random,
    unlimited,
};
use crate::{Hub, Settings};

fn at(epoch: &str, offset: u64) -> Option<Position> {
    Some(Position { epoch: epoch.into(), offset })
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_comes_first_then_what_is_new() {
    let hub = hub();
    let mut app = app(&hub).await;
    (0..3).for_each(|n| app.emit("chat:a", &n.to_string()));
    sleep(Duration::from_millis(10)).await;
    let mut peer = connected(&hub).await;
    let fresh = peer.subscribe("chat:a", None).await;
    assert!(fresh.recovered && fresh.publications.is_empty());
    let epoch = fresh.position.expect("a place").epoch;
    let mut late = connected(&hub).await;
    let subscribed = late.subscribe("chat:a", at(&epoch, 1)).await;
    let chain: Vec<_> = subscribed.publications.iter().map(|p| (p.previous, p.offset)).collect();
    assert_eq!(chain, [(1, 2), (2, 3)]);
    assert!(subscribed.recovered && !subscribed.more);
    app.emit("chat:a", "3");
    assert_eq!(late.offsets().await, [4]);
}

#[tokio::test(start_paused = true)]
async fn another_epoch_or_the_future_is_not_recovered() {
    let hub = hub();
    let mut app = app(&hub).await;
    app.emit("chat:a", "1");
    let mut peer = connected(&hub).await;
    for (place, recovered) in [(at("other", 1), false), (at("", 0), false)] {
        let subscribed = peer.subscribe("chat:a", place).await;
        assert_eq!(subscribed.recovered, recovered);
        peer.ask(command::Kind::Unsubscribe(crate::proto::Unsubscribe { channel: "chat:a".into() })).await;
    }
    let epoch = peer.subscribe("chat:a", None).await.position.expect("a place").epoch;
    let mut other = connected(&hub).await;
    let subscribed = other.subscribe("chat:a", at(&epoch, 99)).await;
    assert!(!subscribed.recovered && subscribed.publications.is_empty());
    assert_eq!(subscribed.position, at(&epoch, 1));
}

#[tokio::test(start_paused = true)]
async fn what_the_log_forgot_is_not_recovered_in_part() {
    let hub = hub_with(Settings { history: 3, ..unlimited() });
    let mut app = app(&hub).await;
    let mut peer = connected(&hub).await;
    let epoch = peer.subscribe("chat:a", None).await.position.expect("a place").epoch;
    (0..5).for_each(|n| app.emit("chat:a", &n.to_string()));
    let mut late = connected(&hub).await;
    assert!(!late.subscribe("chat:a", at(&epoch, 1)).await.recovered);
    let mut kept = connected(&hub).await;
    assert!(kept.subscribe("chat:a", at(&epoch, 2)).await.recovered);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_channel_comes_back_with_another_epoch() {
    let hub = hub();
    let mut app = app(&hub).await;
    app.emit("chat:a", "1");
    let mut peer = connected(&hub).await;
    let first = peer.subscribe("chat:a", None).await.position.expect("a place");
    drop(peer);
    sleep(Duration::from_secs(290)).await;
    assert_eq!(hub.stats().channels, 1);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(hub.stats().channels, 0);
    let mut peer = connected(&hub).await;
    let subscribed = peer.subscribe("chat:a", Some(first.clone())).await;
    assert!(!subscribed.recovered);
    assert_ne!(subscribed.position.expect("a place").epoch, first.epoch);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_published_once_for_each_identity() {
    let hub = hub();
    let _app = app(&hub).await;
    let mut ann = connected(&hub).await;
    let mut bob = crate::testing::peer_of(&hub, crate::testing::user("bob"), crate::Wire::WebSocketProtobuf);
    bob.connect(Connect::default()).await;
    let mut results = vec![];
    for peer in [&mut ann, &mut bob] {
        for _ in 0..2 {
            match peer.ask(publish("chat:a", "1", "k")).await {
                server_message::Kind::Published(p) => {
                    results.push((p.position.expect("a place").offset, p.duplicate))
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(results, [(1, false), (1, true), (2, false), (2, true)]);
}

#[tokio::test(start_paused = true)]
async fn a_latest_gives_its_values_then_changes_and_removals() {
    let hub = hub();
    let mut app = app(&hub).await;
    let emit = |app: &mut App, key: &str, value: Option<&str>| {
        app.say(attach_request::Kind::Emit(Emit {
            channel: "board:a".into(),
            data: value.map(Payload::json),
            latest_key: key.into(),
            removed: value.is_none(),
            ..Emit::default()
        }));
    };
    for (key, value) in [("x", "1"), ("y", "1"), ("x", "2")] {
        emit(&mut app, key, Some(value));
    }
    sleep(Duration::from_millis(10)).await;
    let mut peer = connected(&hub).await;
    let subscribed = peer.subscribe("board:a", None).await;
    assert_eq!(subscribed.kind(), ChannelKind::Latest);
    let keys: Vec<_> = subscribed.publications.iter().map(|p| (p.latest_key.as_str(), p.offset)).collect();
    assert_eq!(keys, [("y", 2), ("x", 3)]);
    emit(&mut app, "y", None);
    let pushed = loop {
        if let server_message::Kind::Publications(pushed) = peer.next().await {
            break pushed;
        }
    };
    assert!(pushed.publications[0].removed);
}

#[tokio::test(start_paused = true)]
async fn history_is_read_in_pages_by_subscribers_only() {
    let hub = hub();
    let mut app = app(&hub).await;
    (0..5).for_each(|n| app.emit("chat:a", &n.to_string()));
    let mut peer = connected(&hub).await;
    let query = |from, limit| {
        command::Kind::History(crate::proto::HistoryQuery { channel: "chat:a".into(), from, limit })
    };
    let refused = peer.ask(query(None, 0)).await;
    assert_eq!(error_code(&refused), crate::proto::ErrorCode::PermissionDenied);
    peer.subscribe("chat:a", None).await;
    let (mut from, mut seen) = (None, vec![]);
    loop {
        let server_message::Kind::History(page) = peer.ask(query(from, 2)).await else { panic!("no page") };
        assert!(page.found);
        seen.extend(page.publications.iter().map(|p| p.offset));
        let top = page.top.expect("a top");
        from = at(&top.epoch, *seen.last().expect("one"));
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    let server_message::Kind::History(page) = peer.ask(query(at("other", 1), 2)).await else {
        panic!("no page")
    };
    assert!(!page.found && page.publications.is_empty());
}

/// What one client of the randomised test has.
struct Reader {
    peer: Option<Peer>,
    ticket: String,
    epoch: String,
    /// The last offset that it has; its next publication has to name it.
    last: u64,
    got: u64,
    reset: bool,
    refused: bool,
}

impl Reader {
    fn hear(&mut self, seed: u64, truth: &BTreeMap<u64, u64>) {
        let Some(peer) = &mut self.peer else { return };
        for kind in peer.now() {
            match kind {
                server_message::Kind::Connected(connected) => {
                    self.ticket = connected.ticket.expect("a ticket").ticket;
                    connected
                        .subscriptions
                        .into_iter()
                        .for_each(|subscribed| self.subscribed(subscribed, seed, truth));
                }
                server_message::Kind::Subscribed(subscribed) => self.subscribed(subscribed, seed, truth),
                server_message::Kind::Publications(pushed) => {
                    self.publications(pushed.publications, seed, truth)
                }
                server_message::Kind::Ticket(ticket) => self.ticket = ticket.ticket,
                server_message::Kind::Closing(_) | server_message::Kind::Heartbeat(_) => {}
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        let refused = std::mem::take(&mut self.refused);
        if refused || self.peer.as_ref().is_some_and(|peer| peer.outbox.closing().is_some()) {
            self.peer = None;
        }
    }

    fn subscribed(&mut self, subscribed: crate::proto::Subscribed, seed: u64, truth: &BTreeMap<u64, u64>) {
        // The connection broke before the ticket with this subscription was read: it subscribes anew, from where it was.
        if subscribed.error.is_some() {
            self.ticket.clear();
            self.refused = true;
            return;
        }
        let at = subscribed.position.expect("a place");
        if !subscribed.recovered || self.epoch.is_empty() {
            self.reset |= !self.epoch.is_empty();
            self.last = subscribed.publications.first().map_or(at.offset, |first| first.previous);
        }
        self.epoch = at.epoch;
        self.publications(subscribed.publications, seed, truth);
        assert_eq!(self.last, at.offset, "seed {seed}: the place is where the publications end");
    }

    fn publications(
        &mut self,
        publications: Vec<crate::proto::Publication>,
        seed: u64,
        truth: &BTreeMap<u64, u64>,
    ) {
        for publication in publications {
            assert_eq!(publication.previous, self.last, "seed {seed}: neither a gap nor a repeat");
            assert!(publication.offset > self.last, "seed {seed}");
            let said = format!("{}", truth.get(&publication.offset).copied().unwrap_or(u64::MAX));
            assert_eq!(publication.data, Some(Payload::json(said)), "seed {seed}");
            self.last = publication.offset;
            self.got += 1;
        }
    }

    /// Connects, and goes on where it was.
    fn arrive(&mut self, hub: &Hub) {
        let mut peer = peer(hub);
        let from = Some(Position { epoch: self.epoch.clone(), offset: self.last });
        // With the smallest outboxes a connection may end as slow before it is read from.
        if self.ticket.is_empty() || self.epoch.is_empty() {
            let from = from.filter(|from| !from.epoch.is_empty());
            let _ = peer.try_say(command::Kind::Connect(Connect::default()));
            let _ = peer.try_say(command::Kind::Subscribe(crate::testing::subscribe("chat:a", from)));
        } else {
            let resume = vec![Resume { channel: "chat:a".into(), from }];
            let connect = Connect { ticket: self.ticket.clone(), resume, ..Connect::default() };
            let _ = peer.try_say(command::Kind::Connect(connect));
        }
        self.peer = Some(peer);
    }
}

/// Publications, arrivals, breaks, stalls and flushes in random order: every reader sees one unbroken chain.
async fn one_run(seed: u64) -> (u64, bool) {
    let mut random = Random::new(seed);
    let history = [5, 50, 1_000][random.below(3)];
    let outbox_bytes = [2_000, 8_000, 1 << 20][random.below(3)];
    let coalesce_bytes = [100, 1_000, 64 << 10][random.below(3)];
    let hub = hub_with(Settings { history, outbox_bytes, coalesce_bytes, ..unlimited() });
    let mut app = app_with(&hub, hello()).await;
    let mut truth = BTreeMap::new();
    let new = || Reader {
        peer: None,
        ticket: String::new(),
        epoch: String::new(),
        last: 0,
        got: 0,
        reset: false,
        refused: false,
    };
    let mut readers: Vec<Reader> = (0..4).map(|_| new()).collect();
    for step in 0..400 {
        let reader = random.below(readers.len());
        match random.below(10) {
            0..=4 => {
                for _ in 0..=random.below(4) {
                    truth.insert(truth.len() as u64 + 1, step);
                    app.emit("chat:a", &step.to_string());
                }
            }
            5 => sleep(Duration::from_millis(random.below(4) as u64)).await,
            6 if readers[reader].peer.is_none() => readers[reader].arrive(&hub),
            6 if random.chance(3) => {
                readers[reader].hear(seed, &truth);
                readers[reader].peer = None;
            }
            7 => readers.iter_mut().for_each(|reader| {
                if let Some(peer) = &mut reader.peer {
                    peer.take(200);
                }
            }),
            _ => readers[reader].hear(seed, &truth),
        }
    }
    sleep(Duration::from_millis(20)).await;
    let top = truth.len() as u64;
    for reader in &mut readers {
        for _ in 0..20 {
            if reader.peer.is_none() {
                reader.arrive(&hub);
            }
            reader.hear(seed, &truth);
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(reader.last, top, "seed {seed}: everybody is at the top in the end");
    }
    (readers.iter().map(|reader| reader.got).sum(), readers.iter().any(|reader| reader.reset))
}

#[tokio::test(start_paused = true)]
async fn no_gap_and_no_repeat_whatever_happens() {
    let (mut got, mut resets) = (0, 0);
    for seed in 0..60 {
        let (count, reset) = one_run(seed).await;
        got += count;
        resets += u32::from(reset);
    }
    assert!(got > 5_000, "{got} publications were seen");
    assert!(resets > 0 && resets < 60, "{resets} runs had a reader that was told to load anew");
}

/// The same with real threads: publishers and readers at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_gap_and_no_repeat_under_concurrent_publishing() {
    const EACH: u64 = 2_000;
    let hub =
        hub_with(Settings { history: 10_000, log_bytes: 64 << 20, coalesce_bytes: 2_000, ..unlimited() });
    let _app = app(&hub).await;
    let publishers: Vec<_> = (0..3)
        .map(|_| {
            let hub = hub.clone();
            tokio::spawn(async move {
                let mut peer = connected(&hub).await;
                for n in 0..EACH {
                    peer.ask(publish("chat:a", &n.to_string(), "")).await;
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..4).map(|seed| tokio::spawn(read_all(hub.clone(), seed, 3 * EACH))).collect();
    for task in publishers.into_iter().chain(readers) {
        task.await.expect("no panic");
    }
}

/// Reads a stream to `top`, breaking the connection again and again.
async fn read_all(hub: Hub, seed: u64, top: u64) {
    let mut random = Random::new(seed);
    let (mut place, mut last): (Option<Position>, u64) = (None, 0);
    while last < top {
        let mut peer = connected(&hub).await;
        let subscribed = peer.subscribe("chat:a", place.clone()).await;
        assert!(subscribed.recovered);
        let at = subscribed.position.expect("a place");
        last = if place.is_none() { at.offset } else { last };
        for publication in &subscribed.publications {
            assert_eq!(publication.previous, last);
            last = publication.offset;
        }
        assert_eq!(last, at.offset);
        for _ in 0..random.below(30) {
            if last == top {
                break;
            }
            for offset in peer.offsets().await {
                assert_eq!(offset, last + 1);
                last = offset;
            }
        }
        place = Some(Position { epoch: at.epoch, offset: last });
    }
}

/// Many subscriptions at once, each with a page and more to read, fit an outbox that holds one or two pages.
#[tokio::test(start_paused = true)]
async fn pages_of_many_channels_at_once_do_not_end_the_connection() {
    let hub = hub_with(Settings { outbox_bytes: 100_000, log_bytes: 8 << 20, ..unlimited() });
    let mut app = app(&hub).await;
    let text = format!("\"{}\"", "x".repeat(10_000));
    let name = |channel: usize| format!("chat:{channel}");
    for channel in 0..20 {
        (0..30).for_each(|_| app.emit(&name(channel), &text));
    }
    sleep(Duration::from_millis(20)).await;
    let mut scout = connected(&hub).await;
    let mut places = vec![];
    for channel in 0..20 {
        let place = scout.subscribe(&name(channel), None).await.position.expect("a place");
        places.push(Position { offset: 0, ..place });
    }
    let mut peer = connected(&hub).await;
    for (channel, place) in places.into_iter().enumerate() {
        peer.say(command::Kind::Subscribe(crate::testing::subscribe(&name(channel), Some(place))));
    }
    let mut seen = BTreeMap::new();
    for kind in peer.now() {
        let (channel, publications) = match kind {
            server_message::Kind::Subscribed(s) => (s.channel, s.publications),
            server_message::Kind::Publications(p) => (p.channel, p.publications),
            _ => continue,
        };
        let last: &mut u64 = seen.entry(channel).or_default();
        for publication in publications {
            assert_eq!(publication.previous, *last);
            *last = publication.offset;
        }
    }
    assert_eq!(seen.len(), 20);
    assert!(seen.values().all(|last| *last == 30), "{seen:?}");
}
