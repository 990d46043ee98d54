//! Applications come, answer late, twice or not at all, and go.

use std::time::Duration;

use tokio::time::sleep;

use crate::proto::{
    Acknowledge, Answer, AttachRequest, Call, CallResult, ChannelKind, Decision, Emit, ErrorCode, Hello,
    Leaving, Payload, PublishAnswer, SubscribeAnswer, answer, ask, attach_request, attach_response, command,
    event, server_message,
};
use crate::testing::{
    App, Peer, app, app_with, connected, error_code, hello, hub, hub_with, namespace, peer, publish,
    subscribe,
};
use crate::{LinkError, Settings, reply};

fn call(idempotent: bool) -> command::Kind {
    command::Kind::Call(Call { method: "chat.rooms".into(), data: Some(Payload::json("1")), idempotent })
}

fn asks_subscribe() -> command::Kind {
    command::Kind::Subscribe(subscribe("asks:a", None))
}

#[tokio::test(start_paused = true)]
async fn asks_are_answered_refused_late_and_twice() {
    let hub = hub();
    let mut app = app(&hub).await;
    let mut peer = connected(&hub).await;
    let id = peer.say(asks_subscribe());
    let (ask, kind, _) = app.asked().await;
    assert!(matches!(kind, ask::Kind::Subscribe(_)));
    app.answer(ask, answer::Kind::Error(reply::error(ErrorCode::PermissionDenied, "not you")));
    app.answer(ask, answer::Kind::Subscribe(SubscribeAnswer::default()));
    assert_eq!(error_code(&peer.reply(id).await), ErrorCode::PermissionDenied);
    assert_eq!(hub.stats().subscriptions, 0, "the second answer counts for nothing");
    let id = peer.say(asks_subscribe());
    let (ask, _, _) = app.asked().await;
    app.answer(ask, answer::Kind::Subscribe(SubscribeAnswer { read_only: true, ..Default::default() }));
    assert!(matches!(peer.reply(id).await, server_message::Kind::Subscribed(_)));
    assert_eq!(error_code(&peer.ask(publish("asks:a", "1", "")).await), ErrorCode::PermissionDenied);
}

#[tokio::test(start_paused = true)]
async fn no_answer_in_time_is_an_error_and_the_ask_is_withdrawn() {
    let hub = hub();
    let mut app = app(&hub).await;
    let mut peer = connected(&hub).await;
    let id = peer.say(call(false));
    let (ask, _, _) = app.asked().await;
    assert_eq!(error_code(&peer.reply(id).await), ErrorCode::DeadlineExceeded);
    assert!(matches!(app.next().await, attach_response::Kind::Withdraw(w) if w.id == ask));
    app.answer(ask, answer::Kind::Call(CallResult::default()));
    assert_eq!(peer.now().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_withdraws_calls_but_not_publications() {
    let hub = hub();
    let mut app = app(&hub).await;
    let mut reader = connected(&hub).await;
    let id = reader.say(asks_subscribe());
    let (ask, _, _) = app.asked().await;
    app.answer(ask, answer::Kind::Subscribe(SubscribeAnswer::default()));
    reader.reply(id).await;
    let mut peer = connected(&hub).await;
    peer.say(call(false));
    peer.say(publish("asks:a", "1", ""));
    let (called, _, _) = app.asked().await;
    let (published, _, _) = app.asked().await;
    drop(peer);
    assert!(matches!(app.next().await, attach_response::Kind::Withdraw(w) if w.id == called));
    app.answer(published, answer::Kind::Publish(PublishAnswer::default()));
    assert_eq!(reader.offsets().await, [1]);
}

#[tokio::test(start_paused = true)]
async fn what_an_application_makes_of_a_publication_is_what_subscribers_get() {
    let hub = hub();
    let mut app = app(&hub).await;
    let mut peer = connected(&hub).await;
    for (answer, published, top) in [
        (PublishAnswer { publish: Some(Payload::json("\"other\"")), ..Default::default() }, 1, 1),
        (PublishAnswer { silent: true, ..Default::default() }, 0, 1),
    ] {
        let id = peer.say(publish("asks:a", "1", ""));
        let (ask, _, _) = app.asked().await;
        app.answer(ask, answer::Kind::Publish(answer));
        let server_message::Kind::Published(reply) = peer.reply(id).await else { panic!("not published") };
        assert_eq!(reply.position.map(|at| at.offset), Some(published));
        assert_eq!(hub.stats().log_entries, top);
    }
    let id = peer.say(publish("asks:a", "1", ""));
    let (ask, _, _) = app.asked().await;
    app.answer(
        ask,
        answer::Kind::Publish(PublishAnswer { publish: Some(Payload::json("{no")), ..Default::default() }),
    );
    assert_eq!(error_code(&peer.reply(id).await), ErrorCode::Internal);
}

/// Every kind of ask is in flight when the link dies: what may be asked twice goes to the next, the rest fails.
#[tokio::test(start_paused = true)]
async fn a_link_dies_with_asks_in_flight() {
    let hub = hub();
    let mut first = app_with(&hub, Hello { connects: true, ..hello() }).await;
    let mut peer = connect_through(&hub, &mut first).await;
    let mut new = crate::testing::peer(&hub);
    let opened = new.say(command::Kind::Connect(Default::default()));
    let subscribed = peer.say(asks_subscribe());
    let keyed = peer.say(publish("asks:a", "1", "k"));
    let unkeyed = peer.say(publish("asks:a", "2", ""));
    let idempotent = peer.say(call(true));
    let other = peer.say(call(false));
    for _ in 0..6 {
        first.asked().await;
    }
    drop(first);
    assert_eq!(error_code(&peer.reply(unkeyed).await), ErrorCode::Unavailable);
    assert_eq!(error_code(&peer.reply(other).await), ErrorCode::Unavailable);
    let mut second = app_with(&hub, Hello { connects: true, ..hello() }).await;
    for _ in 0..4 {
        let (id, kind, again) = second.asked().await;
        assert!(again, "{kind:?}");
        second.answer(id, yes(&kind));
    }
    assert!(matches!(peer.reply(subscribed).await, server_message::Kind::Subscribed(_)));
    assert!(matches!(peer.reply(keyed).await, server_message::Kind::Published(_)));
    assert!(matches!(peer.reply(idempotent).await, server_message::Kind::Result(_)));
    assert!(matches!(new.reply(opened).await, server_message::Kind::Connected(_)));
}

async fn connect_through(hub: &crate::Hub, app: &mut App) -> Peer {
    let mut peer = peer(hub);
    let id = peer.say(command::Kind::Connect(Default::default()));
    let (ask, kind, _) = app.asked().await;
    app.answer(ask, yes(&kind));
    peer.reply(id).await;
    peer
}

fn yes(kind: &ask::Kind) -> answer::Kind {
    match kind {
        ask::Kind::Connect(_) => answer::Kind::Connect(Default::default()),
        ask::Kind::Subscribe(_) => answer::Kind::Subscribe(Default::default()),
        ask::Kind::Publish(_) => answer::Kind::Publish(Default::default()),
        ask::Kind::Call(_) => answer::Kind::Call(Default::default()),
    }
}

#[tokio::test(start_paused = true)]
async fn with_no_link_asks_wait_until_the_deadline_and_no_more_than_allowed() {
    let hub = hub_with(Settings { asks_waiting: 2, ..Settings::default() });
    let mut peer = {
        let _app = app(&hub).await;
        connected(&hub).await
    };
    let ids: Vec<_> = (0..3).map(|_| peer.say(call(false))).collect();
    let server_message::Kind::Error(full) = peer.reply(ids[2]).await else { panic!("one too many") };
    assert_eq!(full.code(), ErrorCode::Unavailable);
    assert!(full.retry_after_ms > 0);
    assert_eq!(hub.stats().asks_waiting, 2);
    let start = tokio::time::Instant::now();
    assert_eq!(error_code(&peer.reply(ids[0]).await), ErrorCode::Unavailable);
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(hub.stats().asks_waiting, 0);
    let mut never = crate::testing::hub();
    let mut peer = crate::testing::peer(&never);
    let id = peer.say(command::Kind::Connect(Default::default()));
    assert_eq!(error_code(&peer.reply(id).await), ErrorCode::Unavailable);
    never = hub;
    drop(never);
}

#[tokio::test(start_paused = true)]
async fn asks_go_around_and_a_link_that_leaves_gets_no_more() {
    let hub = hub();
    let (mut one, mut two) = (app(&hub).await, app(&hub).await);
    let mut peer = connected(&hub).await;
    let ids: Vec<_> = (0..4).map(|_| peer.say(call(true))).collect();
    assert_eq!(ids.len(), 4);
    let (first, _, _) = one.asked().await;
    one.asked().await;
    two.asked().await;
    two.asked().await;
    one.say(attach_request::Kind::Leaving(Leaving {}));
    peer.say(call(true));
    two.asked().await;
    one.answer(first, answer::Kind::Call(CallResult::default()));
    assert_eq!(hub.stats().links, 2, "it has one more to answer");
    sleep(Duration::from_secs(6)).await;
    assert_eq!(hub.stats().links, 1);
    while one.told.recv().await.is_some() {}
    let late = one.link.receive(AttachRequest { kind: Some(attach_request::Kind::Leaving(Leaving {})) });
    assert_eq!(late, Err(LinkError::Left));
}

#[tokio::test(start_paused = true)]
async fn nonsense_ends_a_link_and_says_why() {
    let hub = hub();
    let (mut link, _told) = hub.attach("realtime");
    let mut say = |kind| link.receive(AttachRequest { kind }).expect_err("nonsense").to_string();
    let answer = Answer { id: 1, kind: None };
    assert_eq!(say(Some(attach_request::Kind::Answer(answer))), "the first message has to be a hello");
    let old = Hello { version: 7, ..hello() };
    assert_eq!(say(Some(attach_request::Kind::Hello(old))), "version 7: only 1 is spoken here");
    let mut app = app(&hub).await;
    let (mut other, _told) = hub.attach("other");
    let theirs = Some(attach_request::Kind::Hello(hello()));
    let error = other.receive(AttachRequest { kind: theirs }).expect_err("taken").to_string();
    assert_eq!(error, "namespace chat: another service serves it");
    let mut peer = connected(&hub).await;
    peer.say(asks_subscribe());
    let (ask, _, _) = app.asked().await;
    let kind = Some(answer::Kind::Call(CallResult::default()));
    let wrong = AttachRequest { kind: Some(attach_request::Kind::Answer(Answer { id: ask, kind })) };
    assert!(matches!(app.link.receive(wrong), Err(LinkError::Invalid(_))));
}

#[tokio::test(start_paused = true)]
async fn a_link_that_does_not_read_is_ended() {
    let hub = hub_with(Settings { asks_per_link: 1, ..Settings::default() });
    let mut app = app(&hub).await;
    let emit = |id| Emit { id, channel: "live:a".into(), data: Some(Payload::json("1")), ..Emit::default() };
    let message = |id| AttachRequest { kind: Some(attach_request::Kind::Emit(emit(id))) };
    let ended = (1..10_000).map(|id| app.link.receive(message(id))).find(|result| result.is_err());
    assert!(matches!(ended, Some(Err(LinkError::Flood(_)))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn emits_are_answered_and_their_keys_count_once() {
    let hub = hub();
    let mut app = app(&hub).await;
    let mut emitted = vec![];
    for (channel, data) in [("chat:a", "1"), ("chat:a", "1"), ("none:a", "1"), ("chat:a", "{no")] {
        let data = Some(Payload::json(data));
        let emit = Emit { id: 5, channel: channel.into(), data, key: "k".into(), ..Emit::default() };
        app.say(attach_request::Kind::Emit(emit));
        let attach_response::Kind::Emitted(told) = app.next().await else { panic!("not emitted") };
        emitted.push((
            told.position.map(|at| at.offset),
            told.duplicate,
            told.error.map(|error| error.code()),
        ));
    }
    let (not_found, invalid) = (Some(ErrorCode::NotFound), Some(ErrorCode::Invalid));
    let expected =
        [(Some(1), false, None), (Some(1), true, None), (None, false, not_found), (None, false, invalid)];
    assert_eq!(emitted, expected);
}

#[tokio::test(start_paused = true)]
async fn events_wait_for_their_application_come_again_until_acknowledged_and_say_how_many_were_lost() {
    let hub = hub_with(Settings { events: 3, presence_grace: Duration::ZERO, ..Settings::default() });
    let mut told = namespace("room", ChannelKind::Live, Decision::Allow);
    told.tell_left = true;
    let rooms = || Hello { namespaces: vec![told.clone()], ..hello() };
    drop(app_with(&hub, rooms()).await);
    let mut peer = connected(&hub).await;
    for index in 0..5 {
        let channel = format!("room:{index}");
        peer.subscribe(&channel, None).await;
        peer.ask(command::Kind::Unsubscribe(crate::proto::Unsubscribe { channel })).await;
    }
    assert_eq!((hub.stats().events_waiting, hub.stats().events_lost), (3, 3));
    for acknowledged in [None, Some(4)] {
        let mut app = app_with(&hub, rooms()).await;
        let mut events = vec![];
        for _ in 0..3 {
            let attach_response::Kind::Event(event) = app.next().await else { panic!("not an event") };
            events.push((event.sequence, event.kind.expect("a kind")));
        }
        assert_eq!(events[0], (3, event::Kind::Lost(3)));
        assert!(matches!(&events[1], (4, event::Kind::Left(left)) if left.channel == "room:3"));
        assert!(matches!(&events[2], (5, event::Kind::Left(_))));
        if let Some(sequence) = acknowledged {
            app.say(attach_request::Kind::Acknowledge(Acknowledge { sequence }));
        }
    }
    assert_eq!(hub.stats().events_waiting, 1);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_keeps_something_else_begins_anew() {
    let hub = hub();
    let _app = app(&hub).await;
    let mut peer = connected(&hub).await;
    peer.subscribe("chat:a", None).await;
    peer.now();
    let namespaces = vec![namespace("chat", ChannelKind::Live, Decision::Allow)];
    let _newer = app_with(&hub, Hello { namespaces, ..hello() }).await;
    let server_message::Kind::Unsubscribed(ended) = peer.next().await else { panic!("not ended") };
    assert!(ended.error.is_some_and(|error| error.retry_after_ms > 0));
    assert_eq!(peer.subscribe("chat:a", None).await.kind(), ChannelKind::Live);
}

#[tokio::test(start_paused = true)]
async fn plain_requests_publish_read_and_are_withdrawn() {
    let hub = hub();
    let mut app = app(&hub).await;
    let ann = || crate::testing::user("ann");
    let published = hub.once(ann(), publish("chat:a", "1", "k"), "").await;
    assert!(matches!(published, server_message::Kind::Published(p) if !p.duplicate));
    let history = |channel: &str| {
        command::Kind::History(crate::proto::HistoryQuery { channel: channel.into(), ..Default::default() })
    };
    let page = hub.once(ann(), history("chat:a"), "").await;
    assert!(matches!(page, server_message::Kind::History(page) if page.publications.len() == 1));
    assert_eq!(error_code(&hub.once(ann(), history("live:a"), "").await), ErrorCode::Invalid);
    {
        let mut pending = Box::pin(hub.once(ann(), history("asks:a"), ""));
        assert!(futures_poll(&mut pending).await);
    }
    app.asked().await;
    assert!(matches!(app.next().await, attach_response::Kind::Withdraw(_)));
}

/// Whether a future is still pending after one look.
async fn futures_poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
    })
    .await
}

/// A fault of the application's code is no refusal: the client may connect again on the same connection.
#[tokio::test(start_paused = true)]
async fn a_fault_at_connect_does_not_end_the_connection() {
    let hub = hub();
    let mut app = app_with(&hub, Hello { connects: true, ..hello() }).await;
    let mut peer = peer(&hub);
    let id = peer.say(command::Kind::Connect(Default::default()));
    let (ask, _, _) = app.asked().await;
    app.answer(ask, answer::Kind::Error(reply::error(ErrorCode::Internal, "a fault")));
    assert_eq!(error_code(&peer.reply(id).await), ErrorCode::Internal);
    let id = peer.say(command::Kind::Connect(Default::default()));
    let (ask, kind, _) = app.asked().await;
    app.answer(ask, yes(&kind));
    assert!(matches!(peer.reply(id).await, server_message::Kind::Connected(_)));
}
