//! What a connection may do, and what becomes of one that does more, or too little.

use std::time::Duration;

use tokio::time::sleep;

use crate::proto::{
    Call, CloseCode, Connect, ErrorCode, Hello, Payload, Ping, Subscribe, attach_request, command,
    server_message,
};
use crate::testing::{
    app, app_with, connected, error_code, hello, hub, hub_with, namespace, peer, peer_of, publish, subscribe,
    unlimited, user,
};
use crate::{Settings, Wire};

fn ping() -> command::Kind {
    command::Kind::Ping(Ping {})
}

#[tokio::test(start_paused = true)]
async fn the_first_command_is_connect_and_it_comes_in_time() {
    let hub = hub();
    let _app = app(&hub).await;
    let mut early = peer(&hub);
    assert_eq!(early.try_say(ping()).expect_err("too early").code, CloseCode::BadFrame);
    let mut silent = peer(&hub);
    assert_eq!(silent.closed().await.code, CloseCode::Silent);
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_malformed_or_too_large_end_the_connection() {
    let hub = hub_with(Settings { frame_bytes: 100, ..Settings::default() });
    let _app = app(&hub).await;
    for (frame, part) in [
        (&b"{"[..], "not a frame in JSON"),
        (&[b' '; 101][..], "a frame of 101 bytes; at most 100 are allowed"),
    ] {
        let mut peer = connected(&hub).await;
        let closing = peer.client.receive(frame, "").expect_err("a bad frame");
        assert_eq!(closing.code, CloseCode::BadFrame);
        assert!(closing.message.contains(part), "{}", closing.message);
        assert_eq!(peer.closed().await, closing);
        assert_eq!(peer.client.receive(b"{}", ""), Err(closing), "it stays ended");
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_commands_are_refused_and_a_flood_ends_the_connection() {
    let hub = hub_with(Settings { commands_per_second: 10, ..Settings::default() });
    let _app = app(&hub).await;
    let mut peer = connected(&hub).await;
    let mut kinds = vec![];
    for _ in 0..60 {
        kinds.push(peer.ask(ping()).await);
    }
    let refused: Vec<_> =
        kinds.iter().filter(|kind| matches!(kind, server_message::Kind::Error(_))).collect();
    assert_eq!(refused.len(), 21);
    assert_eq!(error_code(refused[0]), ErrorCode::RateLimited);
    let closing = (0..400).find_map(|_| peer.try_say(ping()).err()).expect("a flood");
    assert_eq!(closing.code, CloseCode::Flood);
    assert!(closing.retry_after_ms >= 5_000);
}

#[tokio::test(start_paused = true)]
async fn commands_in_flight_are_bounded() {
    let hub = hub();
    let _app = app(&hub).await;
    let mut peer = connected(&hub).await;
    let call = || command::Kind::Call(Call { method: "chat.x".into(), ..Call::default() });
    let ids: Vec<_> = (0..33).map(|_| peer.say(call())).collect();
    assert_eq!(error_code(&peer.reply(ids[32]).await), ErrorCode::LimitExceeded);
    assert_eq!(hub.stats().asks_in_flight, 32);
}

#[tokio::test(start_paused = true)]
async fn subscriptions_names_and_namespaces_are_checked() {
    let settings = Settings { channels_per_connection: 2, channel_name_bytes: 10, ..Settings::default() };
    let hub = hub_with(settings);
    let deny = namespace("shut", crate::proto::ChannelKind::Live, crate::proto::Decision::Deny);
    let mut namespaces = hello().namespaces;
    namespaces.push(deny);
    let _app = app_with(&hub, Hello { namespaces, ..hello() }).await;
    let mut peer = connected(&hub).await;
    for (channel, code) in [
        ("chat:far-too-long", ErrorCode::Invalid),
        ("chat", ErrorCode::Invalid),
        ("chat:a b", ErrorCode::Invalid),
        ("none:a", ErrorCode::NotFound),
        ("shut:a", ErrorCode::PermissionDenied),
    ] {
        let error = peer.ask(command::Kind::Subscribe(subscribe(channel, None))).await;
        assert_eq!(error_code(&error), code, "{channel}");
    }
    assert_eq!(error_code(&peer.ask(publish("shut:a", "1", "")).await), ErrorCode::PermissionDenied);
    peer.subscribe("chat:a", None).await;
    let twice = peer.ask(command::Kind::Subscribe(subscribe("chat:a", None))).await;
    assert_eq!(error_code(&twice), ErrorCode::Conflict);
    peer.subscribe("chat:b", None).await;
    let third = peer.ask(command::Kind::Subscribe(subscribe("chat:c", None))).await;
    assert_eq!(error_code(&third), ErrorCode::LimitExceeded);
    let none = command::Kind::Unsubscribe(crate::proto::Unsubscribe { channel: "chat:z".into() });
    assert_eq!(error_code(&peer.ask(none).await), ErrorCode::NotFound);
}

#[tokio::test(start_paused = true)]
async fn what_is_published_is_checked_and_rates_hold() {
    let hub = hub_with(Settings { publications_per_second: 2, ..Settings::default() });
    let _app = app(&hub).await;
    let mut peer = connected(&hub).await;
    let bad = |change: fn(&mut crate::proto::Publish)| {
        let command::Kind::Publish(mut publish) = publish("chat:a", "1", "") else { panic!("not a publish") };
        change(&mut publish);
        command::Kind::Publish(publish)
    };
    let commands = [
        bad(|publish| publish.data = None),
        bad(|publish| publish.data = Some(Payload::default())),
        bad(|publish| publish.data = Some(Payload::json("{no"))),
        bad(|publish| publish.key = "k".repeat(65)),
        bad(|publish| publish.latest_key = "k".into()),
    ];
    for command in commands {
        assert_eq!(error_code(&peer.ask(command).await), ErrorCode::Invalid);
    }
    let mut refused = 0;
    for _ in 0..10 {
        refused +=
            u32::from(matches!(peer.ask(publish("chat:a", "1", "")).await, server_message::Kind::Error(_)));
    }
    assert_eq!(refused, 2, "eight in four seconds' worth");
}

#[tokio::test(start_paused = true)]
async fn who_publishes_need_not_subscribe_and_gets_nothing() {
    let hub = hub();
    let _app = app(&hub).await;
    let mut peer = connected(&hub).await;
    assert!(matches!(peer.ask(publish("chat:a", "1", "")).await, server_message::Kind::Published(_)));
    sleep(Duration::from_millis(50)).await;
    assert!(peer.now().is_empty());
}

#[tokio::test(start_paused = true)]
async fn heartbeats_name_the_tops_and_silence_ends_the_connection() {
    let hub = hub();
    let mut app = app(&hub).await;
    let mut peer = connected(&hub).await;
    peer.subscribe("chat:a", None).await;
    app.emit("chat:a", "1");
    peer.offsets().await;
    let beat = loop {
        if let server_message::Kind::Heartbeat(beat) = peer.next().await {
            break beat;
        }
    };
    assert_eq!(beat.tops[0].top.as_ref().map(|top| top.offset), Some(1));
    assert_eq!(peer.closed().await.code, CloseCode::Silent);
    let mut stream = peer_of(&hub, user("ann"), Wire::EventStream);
    stream.connect(Connect::default()).await;
    sleep(Duration::from_secs(200)).await;
    assert!(stream.outbox.closing().is_none(), "an event stream cannot answer");
    assert!(!stream.now().is_empty());
}

/// Who only reads in a busy channel is sent something all the time, and says nothing by itself.
#[tokio::test(start_paused = true)]
async fn who_only_reads_is_asked_for_an_answer_however_busy_it_is() {
    let hub = hub();
    let mut app = app(&hub).await;
    let (mut reader, mut mute) = (connected(&hub).await, connected(&hub).await);
    reader.subscribe("chat:a", None).await;
    mute.subscribe("chat:a", None).await;
    let (mut heard, mut silenced) = (0, None);
    for second in 0..200 {
        app.emit("chat:a", "1");
        sleep(Duration::from_secs(1)).await;
        for said in reader.now() {
            if let server_message::Kind::Heartbeat(_) = said {
                heard += 1;
                reader.say(ping());
            }
        }
        mute.now();
        if mute.outbox.closing().is_some() {
            silenced.get_or_insert(second);
        }
    }
    assert!(reader.outbox.closing().is_none(), "it answered every heartbeat");
    assert!((7..=8).contains(&heard), "{heard} heartbeats in 200 s");
    assert!(silenced.is_some_and(|second| (48..55).contains(&second)), "{silenced:?}");
}

/// One that never reads: each kind of channel has its own way, and none of them grows.
#[tokio::test(start_paused = true)]
async fn a_client_that_never_takes_costs_no_more_than_its_outbox() {
    let hub = hub_with(Settings { outbox_bytes: 10_000, ..unlimited() });
    let mut app = app(&hub).await;
    let text = format!("\"{}\"", "x".repeat(500));
    for (channel, closes) in [("live:a", false), ("board:a", false), ("chat:a", true)] {
        let mut peer = connected(&hub).await;
        peer.subscribe(channel, None).await;
        for _ in 0..100 {
            app.emit(channel, &text);
            sleep(Duration::from_millis(3)).await;
        }
        assert_eq!(peer.outbox.closing().map(|closing| closing.code), closes.then_some(CloseCode::Slow));
        let mut pieces = vec![];
        while peer.outbox.take(&mut pieces, usize::MAX) {}
        assert!(pieces.iter().map(|piece| piece.len()).sum::<usize>() < 12_000);
        if channel == "board:a" {
            let last = crate::testing::unframe(Wire::WebSocketJson, pieces.last().expect("one"));
            let Some(server_message::Kind::Publications(last)) = &last.messages[0].kind else {
                panic!("{last:?}")
            };
            assert_eq!(last.publications[0].offset, 100, "the newest value came in the end");
        }
    }
    assert!(hub.stats().dropped > 50);
}

#[tokio::test(start_paused = true)]
async fn connections_and_channels_are_bounded_and_a_drain_spreads() {
    let hub = hub_with(Settings { connections: 5, channels: 1, ..Settings::default() });
    let mut app = app(&hub).await;
    let mut peers = vec![];
    for _ in 0..5 {
        peers.push(connected(&hub).await);
    }
    let refused = hub.open(user("ann"), Wire::WebSocketJson).expect_err("one too many");
    assert_eq!(refused.code, CloseCode::Overloaded);
    peers[0].subscribe("chat:a", None).await;
    let more =
        peers[0].ask(command::Kind::Subscribe(Subscribe { channel: "chat:b".into(), ..Default::default() }));
    assert_eq!(error_code(&more.await), ErrorCode::LimitExceeded);
    app.say(attach_request::Kind::Revoke(crate::proto::Revoke {
        subject: "nobody".into(),
        ..Default::default()
    }));
    hub.drain(Duration::from_millis(500));
    let start = tokio::time::Instant::now();
    let mut times = vec![];
    for peer in &mut peers {
        let closing = peer.closed().await;
        assert_eq!(closing.code, CloseCode::Draining);
        assert!(closing.retry_after_ms >= 100);
        times.push(start.elapsed());
    }
    assert!(times.iter().max() > times.iter().min(), "{times:?}");
    assert!(times.iter().all(|time| time.as_millis() <= 500), "{times:?}");
    drop(peers);
    assert_eq!(hub.open(user("ann"), Wire::WebSocketJson).expect_err("draining").code, CloseCode::Draining);
    assert_eq!(hub.stats().connections, 0);
}

/// Publications are handed over at once where it was quiet, and every two milliseconds where it is not.
#[tokio::test(start_paused = true)]
async fn a_quiet_channel_delivers_at_once_and_a_busy_one_in_batches() {
    let hub = hub_with(unlimited());
    let mut app = app(&hub).await;
    let mut peer = connected(&hub).await;
    peer.subscribe("chat:a", None).await;
    peer.now();
    app.emit("chat:a", "1");
    assert_eq!(peer.now().len(), 1, "at once");
    (0..5).for_each(|_| app.emit("chat:a", "2"));
    assert_eq!(peer.now().len(), 0, "not yet");
    let start = tokio::time::Instant::now();
    assert_eq!(peer.offsets().await, [2, 3, 4, 5, 6]);
    assert!(start.elapsed() <= Duration::from_millis(3), "{:?}", start.elapsed());
    let large = format!("\"{}\"", "x".repeat(70_000));
    app.emit("chat:a", &large);
    assert_eq!(peer.now().len(), 1, "large batches do not wait");
}

/// 500 writes take a while: in a busy channel everybody is written to once in eight milliseconds, in turns.
#[tokio::test(start_paused = true)]
async fn a_busy_channel_of_many_writes_to_parts_in_turns() {
    const BUSY_MS: u64 = 80;
    let hub = hub_with(unlimited());
    let mut app = app(&hub).await;
    let mut peers = Vec::new();
    for _ in 0..500 {
        let mut peer = connected(&hub).await;
        peer.subscribe("chat:a", None).await;
        peer.now();
        peers.push((peer, vec![]));
    }
    app.emit("chat:a", "1");
    assert!(peers.iter_mut().all(|(peer, _)| peer.now().len() == 1), "at once, where it was quiet");
    let (mut writes, mut most) = (0, 0);
    for at in 0..BUSY_MS + 10 {
        if at < BUSY_MS {
            app.emit("chat:a", "2");
        }
        sleep(Duration::from_millis(1)).await;
        let mut together = 0;
        for (peer, got) in &mut peers {
            let heard = peer.now();
            together += heard.len();
            for message in heard {
                let server_message::Kind::Publications(pushed) = message else { panic!("{message:?}") };
                got.extend(pushed.publications.iter().map(|publication| publication.offset));
            }
        }
        writes += together;
        most = most.max(together);
    }
    // A turn each eight milliseconds, and one more at the end.
    assert!((500 * 10..=500 * 12).contains(&writes), "{writes}");
    assert!(most < 500 / 2, "{most} at once");
    peers.iter().for_each(|(_, got)| assert_eq!(*got, (2..=BUSY_MS + 1).collect::<Vec<_>>()));
}
