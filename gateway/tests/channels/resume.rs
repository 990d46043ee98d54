//! Sessions that come back: with tickets good and bad, and from places that are known, forgotten or made up.

use crate::{
    app::{App, edge},
    client::Client,
    support::Edge,
};
use serde_json::{Value, json};

/// A session that has subscribed, and the reply to its connect.
async fn subscribed(edge: &Edge, channel: &str) -> (Client, Value, Value) {
    let (mut client, reply) = Client::open(edge.at.public, json!({})).await;
    let subscribed = client.subscribe(channel).await;
    (client, reply["connected"].clone(), subscribed)
}

fn ticket(connected: &Value) -> &str {
    connected["ticket"]["ticket"].as_str().unwrap()
}

/// The newest ticket of a client: of its connect, or pushed since.
fn newest_ticket(client: &Client, connected: &Value) -> String {
    let pushed = client.pushed.iter().rev().find_map(|push| push["ticket"]["ticket"].as_str());
    pushed.unwrap_or(ticket(connected)).to_owned()
}

#[tokio::test]
async fn a_ticket_resumes_without_asking_and_what_was_missed_follows() {
    let edge = edge("").await;
    let app = App::attach(&edge).await;
    let (mut ann, connected, subscribed) = subscribed(&edge, "chat:lobby").await;
    let mut bob = Client::new(edge.at.public).await;
    bob.subscribe("chat:lobby").await;
    bob.publish("chat:lobby", json!(1)).await;
    let first = ann.publications().await;
    let from = json!({"epoch": subscribed["position"]["epoch"], "offset": first[0]["offset"]});
    let ticket = newest_ticket(&ann, &connected);
    drop(ann);
    for number in 2..=5 {
        bob.publish("chat:lobby", json!(number)).await;
    }
    let asked = app.asks().len();
    let resume = json!({"ticket": ticket, "resume": [{"channel": "chat:lobby", "from": from}]});
    let (mut ann, reply) = Client::open(edge.at.public, resume).await;
    let again = &reply["connected"];
    assert_eq!((&again["resumed"], &again["session"]), (&true.into(), &connected["session"]), "{reply}");
    let back = &again["subscriptions"][0];
    assert_eq!(back["recovered"], true, "{reply}");
    let missed = back["publications"].as_array().cloned().unwrap_or_default();
    let mut data: Vec<Value> = missed.iter().map(|it| it["data"]["json"].clone()).collect();
    data.extend(ann.published(4 - data.len()).await);
    assert_eq!(data, [2, 3, 4, 5].map(Value::from));
    assert_eq!(app.asks().len(), asked, "the application was not asked");
}

#[tokio::test]
async fn a_forged_or_expired_ticket_resumes_nothing() {
    let edge = edge("ticket_ttl = \"1s\"").await;
    let _app = App::attach(&edge).await;
    let (_client, connected, _) = subscribed(&edge, "chat:lobby").await;
    let good = ticket(&connected).to_owned();
    let mut forged = good.clone().into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    for bad in [String::from_utf8(forged).unwrap(), "x".into(), format!("{good}x")] {
        let (_client, reply) = Client::open(edge.at.public, json!({"ticket": bad})).await;
        assert_eq!(reply["error"]["code"], "ERROR_CODE_UNAUTHENTICATED", "{bad}: {reply}");
    }
    // Nothing tells from outside that a second has passed but the answer itself.
    let mut last = Value::Null;
    for _ in 0..50 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        last = Client::open(edge.at.public, json!({"ticket": good})).await.1;
        if last["error"]["code"] == "ERROR_CODE_EXPIRED" {
            return;
        }
    }
    panic!("{last}");
}

#[tokio::test]
async fn a_place_of_another_epoch_or_of_the_future_is_not_recovered() {
    let edge = edge("").await;
    let _app = App::attach(&edge).await;
    let (mut client, _, subscribed) = subscribed(&edge, "open:a").await;
    client.publish("open:a", json!(1)).await;
    let epoch = subscribed["position"]["epoch"].as_str().unwrap();
    for from in [json!({"epoch": "another", "offset": "1"}), json!({"epoch": epoch, "offset": "999999"})] {
        let mut other = Client::new(edge.at.public).await;
        let reply = other.ask(json!({"subscribe": {"channel": "open:a", "from": from}})).await;
        let recovered = &reply["subscribed"]["recovered"];
        assert!(reply["subscribed"].is_object() && *recovered != true, "{from}: {reply}");
    }
    let mut other = Client::new(edge.at.public).await;
    let from = json!({"epoch": epoch, "offset": "0"});
    let reply = other.ask(json!({"subscribe": {"channel": "open:a", "from": from}})).await;
    assert_eq!(reply["subscribed"]["recovered"], true, "{reply}");
}

#[tokio::test]
async fn a_session_that_is_resumed_elsewhere_leaves_its_old_connection() {
    let edge = edge("").await;
    let _app = App::attach(&edge).await;
    let (old, connected, _) = subscribed(&edge, "chat:lobby").await;
    let (_new, reply) = Client::open(edge.at.public, json!({"ticket": ticket(&connected)})).await;
    assert_eq!(reply["connected"]["resumed"], true, "{reply}");
    assert_eq!(old.closed().await.0, 4500);
}
