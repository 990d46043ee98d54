//! Sessions: who may connect, tickets, revocations, the end of tokens, replacement.

use std::time::Duration;

use tokio::time::sleep;

use crate::proto::{
    CloseCode, Connect, ConnectAnswer, ErrorCode, Hello, Payload, Refresh, Resume, Revoke, answer, ask,
    attach_request, command, server_message,
};
use crate::testing::{
    Peer, app, app_with, connected, error_code, hello, hub, hub_with, peer, peer_of, subscribe, user,
    user_until,
};
use crate::{Hub, Identity, Settings, Wire, reply};

fn connect(connect: Connect) -> command::Kind {
    command::Kind::Connect(connect)
}

fn with_ticket(ticket: &str, channels: &[&str]) -> Connect {
    let resume = channels.iter().map(|channel| Resume { channel: (*channel).into(), from: None }).collect();
    Connect { ticket: ticket.into(), resume, ..Connect::default() }
}

#[tokio::test(start_paused = true)]
async fn the_application_lets_sessions_open_or_refuses_them() {
    let hub = hub();
    let mut app = app_with(&hub, Hello { connects: true, ..hello() }).await;
    let mut peer = peer(&hub);
    let id = peer.say(connect(Connect { data: Some(Payload::json("1")), ..Connect::default() }));
    let (ask, kind, again) = app.asked().await;
    assert_eq!(kind, ask::Kind::Connect(crate::proto::AskConnect { data: Some(Payload::json("1")) }));
    assert!(!again);
    let data = Some(Payload::json("{\"hello\":true}"));
    app.answer(ask, answer::Kind::Connect(ConnectAnswer { data: data.clone(), member: None }));
    let server_message::Kind::Connected(connected) = peer.reply(id).await else { panic!("not connected") };
    assert_eq!(connected.data, data);
    assert!(!connected.resumed && !connected.session.is_empty());

    let mut refused = peer_of(&hub, user("eve"), Wire::WebSocketProtobuf);
    refused.say(connect(Connect::default()));
    let (ask, _, _) = app.asked().await;
    app.answer(ask, answer::Kind::Error(reply::error(ErrorCode::PermissionDenied, "no")));
    assert_eq!(refused.closed().await.code, CloseCode::Refused);
}

#[tokio::test(start_paused = true)]
async fn commands_wait_for_connect_in_their_order() {
    let hub = hub();
    let mut app = app_with(&hub, Hello { connects: true, ..hello() }).await;
    let mut peer = peer(&hub);
    let frame = br#"{"commands":[{"id":1,"connect":{}},{"id":2,"subscribe":{"channel":"chat:a"}},
        {"id":3,"publish":{"channel":"chat:a","data":{"json":1}}}]}"#;
    peer.client.receive(frame, "").expect("a frame");
    assert!(peer.now().is_empty());
    let (ask, _, _) = app.asked().await;
    app.answer(ask, answer::Kind::Connect(ConnectAnswer::default()));
    let heard = peer.now();
    use server_message::Kind::{Connected, Publications, Published, Subscribed};
    assert!(matches!(heard[..3], [Connected(_), Subscribed(_), Publications(_)]), "{heard:?}");
    assert!(matches!(heard[3], Published(_)), "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn tokens_in_connect_count_and_bad_ones_are_refused() {
    let hub = hub();
    let _app = app(&hub).await;
    let mut peer = peer_of(&hub, Identity::anonymous(), Wire::WebSocketJson);
    let with = |token: &str| connect(Connect { token: token.into(), ..Connect::default() });
    assert_eq!(error_code(&peer.ask(with("bad")).await), ErrorCode::Unauthenticated);
    assert_eq!(error_code(&peer.ask(with("expired")).await), ErrorCode::Expired);
    assert!(matches!(peer.ask(with("bob")).await, server_message::Kind::Connected(_)));
    assert_eq!(error_code(&peer.ask(with("bob")).await), ErrorCode::Conflict);
}

/// A session with a subscription, and its ticket.
async fn session(hub: &Hub) -> (Peer, String) {
    let mut peer = connected(hub).await;
    peer.subscribe("chat:a", None).await;
    let ticket = peer.ticket().await;
    (peer, ticket)
}

#[tokio::test(start_paused = true)]
async fn a_ticket_resumes_without_the_application_and_grants_only_what_it_says() {
    let hub = hub();
    let mut app = app_with(&hub, Hello { connects: true, ..hello() }).await;
    let mut first = peer(&hub);
    first.say(connect(Connect::default()));
    let (ask, _, _) = app.asked().await;
    app.answer(ask, answer::Kind::Connect(ConnectAnswer::default()));
    first.subscribe("chat:a", None).await;
    let ticket = loop {
        let ticket = first.ticket().await;
        if ticket.len() > 150 || first.now().is_empty() {
            break ticket;
        }
    };
    drop(first);
    drop(app);
    let mut again = peer_of(&hub, Identity::anonymous(), Wire::WebSocketJson);
    let connected = again.connect(with_ticket(&ticket, &["chat:a", "chat:b"])).await;
    assert!(connected.resumed);
    assert_eq!(connected.subscriptions[0].error, None);
    let refused = connected.subscriptions[1].error.as_ref().map(|error| error.code());
    assert_eq!(refused, Some(ErrorCode::PermissionDenied));
    assert_eq!(hub.stats().resumed, 1);
}

#[tokio::test(start_paused = true)]
async fn bad_tickets_are_refused_and_a_fresh_connect_works() {
    let hub = hub();
    let _app = app(&hub).await;
    let (peer, ticket) = session(&hub).await;
    drop(peer);
    let other = Hub::new(Settings::default(), b"other", std::sync::Arc::new(crate::testing::Tokens));
    let _other_app = app(&other).await;
    let (_other_peer, other_ticket) = session(&other).await;
    let mut peer = connected_never(&hub);
    for bad in ["x", &ticket[1..], &other_ticket] {
        let error = peer.ask(connect(with_ticket(bad, &[]))).await;
        assert_eq!(error_code(&error), ErrorCode::Unauthenticated, "{bad}");
    }
    let mut eve = peer_of(&hub, user("eve"), Wire::WebSocketJson);
    assert_eq!(error_code(&eve.ask(connect(with_ticket(&ticket, &[]))).await), ErrorCode::Unauthenticated);
    sleep(Duration::from_secs(301)).await;
    let mut peer = connected_never(&hub);
    assert_eq!(error_code(&peer.ask(connect(with_ticket(&ticket, &[]))).await), ErrorCode::Expired);
    assert!(!peer.connect(Connect::default()).await.resumed);
}

fn connected_never(hub: &Hub) -> Peer {
    peer(hub)
}

#[tokio::test(start_paused = true)]
async fn a_gateway_with_the_same_key_resumes_the_sessions_of_another() {
    let (one, two) = (hub(), hub());
    let (_app, _other) = (app(&one).await, app(&two).await);
    let (_peer, ticket) = session(&one).await;
    let connected = peer(&two).connect(with_ticket(&ticket, &["chat:a"])).await;
    assert!(connected.resumed);
    assert_eq!(connected.subscriptions[0].error, None);
}

#[tokio::test(start_paused = true)]
async fn tickets_are_renewed_before_they_end() {
    let hub = hub();
    let _app = app(&hub).await;
    let (mut peer, first) = session(&hub).await;
    sleep(Duration::from_secs(30)).await;
    peer.say(command::Kind::Ping(Default::default()));
    for _ in 0..8 {
        sleep(Duration::from_secs(30)).await;
        peer.say(command::Kind::Ping(Default::default()));
    }
    let renewed = peer.ticket().await;
    assert_ne!(renewed, first);
    sleep(Duration::from_secs(45)).await;
    let mut again = connected_never(&hub);
    assert!(
        again.connect(with_ticket(&renewed, &["chat:a"])).await.resumed,
        "250 s later the second is good"
    );
}

#[tokio::test(start_paused = true)]
async fn a_resumed_session_replaces_the_older_connection() {
    let hub = hub();
    let _app = app(&hub).await;
    let (mut old, ticket) = session(&hub).await;
    let mut new = peer(&hub);
    new.connect(with_ticket(&ticket, &["chat:a"])).await;
    assert_eq!(old.closed().await.code, CloseCode::Replaced);
    drop(old);
    assert_eq!(hub.stats().sessions, 1);
    new.ask(crate::testing::publish("chat:a", "1", "")).await;
    assert_eq!(new.offsets().await, [1]);
}

#[tokio::test(start_paused = true)]
async fn revocations_end_sessions_and_their_tickets() {
    let hub = hub();
    let mut app = app(&hub).await;
    let (mut peer, ticket) = session(&hub).await;
    app.say(attach_request::Kind::Revoke(Revoke { subject: "bob".into(), ..Revoke::default() }));
    app.say(attach_request::Kind::Revoke(Revoke {
        subject: "ann".into(),
        message: "out".into(),
        ..Revoke::default()
    }));
    let closing = peer.closed().await;
    assert_eq!((closing.code, closing.message.as_str()), (CloseCode::Revoked, "out"));
    drop(peer);
    let mut again = connected_never(&hub);
    assert_eq!(error_code(&again.ask(connect(with_ticket(&ticket, &[]))).await), ErrorCode::Unauthenticated);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_revoked_alone_and_no_older_ticket_brings_it_back() {
    let hub = hub();
    let mut app = app(&hub).await;
    let (mut peer, ticket) = session(&hub).await;
    let revoke = Revoke { subject: "ann".into(), channel: "chat:a".into(), ..Revoke::default() };
    app.say(attach_request::Kind::Revoke(revoke));
    let server_message::Kind::Unsubscribed(ended) = peer.next().await else { panic!("not ended") };
    assert_eq!(ended.error.map(|error| error.code()), Some(ErrorCode::PermissionDenied));
    assert_eq!(hub.stats().subscriptions, 0);
    let connected = connected_never(&hub).connect(with_ticket(&ticket, &["chat:a"])).await;
    assert!(connected.resumed && connected.subscriptions[0].error.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_token_unless_it_is_refreshed() {
    let hub = hub_with(Settings::default());
    let _app = app(&hub).await;
    let mut peers = vec![];
    for _ in 0..2 {
        let mut peer = peer_of(&hub, user_until("ann", 10), Wire::WebSocketJson);
        let connected = peer.connect(Connect::default()).await;
        assert!(connected.ticket.expect("a ticket").expires_in_ms <= 10_000);
        peers.push(peer);
    }
    let refresh = |token: &str| command::Kind::Refresh(Refresh { token: token.into() });
    assert_eq!(error_code(&peers[0].ask(refresh("bob")).await), ErrorCode::PermissionDenied);
    assert!(matches!(peers[0].ask(refresh("ann@1000")).await, server_message::Kind::Ticket(_)));
    assert_eq!(peers[1].closed().await.code, CloseCode::Expired);
    sleep(Duration::from_secs(20)).await;
    assert!(peers[0].outbox.closing().is_none());
    peers[0].say(command::Kind::Subscribe(subscribe("chat:a", None)));
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_resumes_by_its_last_event_id() {
    let hub = hub();
    let mut app = app(&hub).await;
    let mut peer = peer_of(&hub, user("ann"), Wire::EventStream);
    peer.connect(Connect::default()).await;
    peer.subscribe("chat:a", None).await;
    app.emit("chat:a", "1");
    assert_eq!(peer.offsets().await, [1]);
    let id = peer.outbox.positions();
    drop(peer);
    app.emit("chat:a", "2");
    sleep(Duration::from_millis(10)).await;
    let (ticket, resume) = crate::Client::resume(&id).expect("an id of ours");
    let mut again = peer_of(&hub, Identity::anonymous(), Wire::EventStream);
    let connected = again.connect(Connect { ticket, resume, ..Connect::default() }).await;
    let missed: Vec<_> = connected.subscriptions[0].publications.iter().map(|p| p.offset).collect();
    assert_eq!((connected.subscriptions[0].recovered, missed), (true, vec![2]));
}

/// What the newest hello of a service says about connects counts, also while it is away.
#[tokio::test(start_paused = true)]
async fn nobody_gets_past_an_application_that_is_away() {
    let hub = hub();
    drop(app_with(&hub, Hello { connects: true, ..hello() }).await);
    let mut early = peer(&hub);
    let id = early.say(connect(Connect::default()));
    assert_eq!(error_code(&early.reply(id).await), ErrorCode::Unavailable);
    let _app = app_with(&hub, hello()).await;
    early.connect(Connect::default()).await;
}
