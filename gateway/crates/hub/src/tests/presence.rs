//! Who is there, as subscribers see it.

use std::time::Duration;

use tokio::time::sleep;

use crate::proto::{
    ChannelKind, Connect, Decision, ErrorCode, Hello, PresenceChange, PresenceQuery, Resume, Unsubscribe,
    command, server_message,
};
use crate::testing::{App, Peer, app_with, connected, error_code, hello, hub, hub_with, namespace, peer};
use crate::{Hub, Settings};

async fn rooms(hub: &Hub) -> App {
    let mut room = namespace("room", ChannelKind::Stream, Decision::Allow);
    room.presence = true;
    app_with(hub, Hello { namespaces: vec![room], ..hello() }).await
}

async fn change(peer: &mut Peer) -> PresenceChange {
    loop {
        if let server_message::Kind::PresenceChange(change) = peer.next().await {
            return change;
        }
    }
}

fn query() -> command::Kind {
    command::Kind::Presence(PresenceQuery { channel: "room:a".into() })
}

#[tokio::test(start_paused = true)]
async fn who_comes_and_goes_is_told_and_listed() {
    let hub = hub();
    let _app = rooms(&hub).await;
    let mut one = connected(&hub).await;
    assert_eq!(error_code(&one.ask(query()).await), ErrorCode::PermissionDenied);
    one.subscribe("room:a", None).await;
    assert_eq!(change(&mut one).await.joined.len(), 1);
    let mut two = connected(&hub).await;
    two.subscribe("room:a", None).await;
    assert_eq!(change(&mut one).await.joined[0].subject, "ann");
    let server_message::Kind::Presence(list) = two.ask(query()).await else { panic!("no list") };
    assert_eq!((list.total, list.members.len()), (2, 2));
    two.ask(command::Kind::Unsubscribe(Unsubscribe { channel: "room:a".into() })).await;
    assert_eq!(change(&mut one).await.left.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_resumes_in_time_never_left_and_one_that_does_not_leaves() {
    let hub = hub_with(Settings { heartbeat: Duration::from_secs(600), ..Settings::default() });
    let _app = rooms(&hub).await;
    let mut watcher = connected(&hub).await;
    watcher.subscribe("room:a", None).await;
    let mut guest = connected(&hub).await;
    guest.subscribe("room:a", None).await;
    let ticket = guest.ticket().await;
    sleep(Duration::from_secs(1)).await;
    watcher.now();
    drop(guest);
    sleep(Duration::from_secs(5)).await;
    let resume = vec![Resume { channel: "room:a".into(), from: None }];
    let mut again = peer(&hub);
    assert!(again.connect(Connect { ticket, resume, ..Connect::default() }).await.resumed);
    sleep(Duration::from_secs(15)).await;
    assert!(watcher.now().is_empty(), "nothing happened");
    drop(again);
    sleep(Duration::from_secs(9)).await;
    assert!(watcher.now().is_empty());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(change(&mut watcher).await.left.len(), 1);
}
