//! Channels as server-sent events, over both kinds of HTTP.

use crate::{
    app::{App, edge},
    client::Client,
    support::{Edge, get, http2, token, within},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::net::TcpStream;

const PATH: &str = "/channels/v1/events";

/// One event's fields, or a comment under the name "".
type Event = BTreeMap<String, String>;

/// An event stream.
struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    fn of(response: Response<Incoming>) -> Self {
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self { body: response.into_body(), text: String::new() }
    }

    async fn open(edge: &Edge, query: &str, last: Option<&str>) -> Self {
        let stream = TcpStream::connect(edge.at.public).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::get(format!("{PATH}{query}")).header("host", edge.at.public.to_string());
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        Self::of(within(sender.send_request(request)).await.unwrap())
    }

    /// The next event; none: the stream has ended.
    async fn next(&mut self) -> Option<Event> {
        while !self.text.contains("\n\n") {
            let frame = within(self.body.frame()).await?.unwrap();
            self.text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
        }
        let (event, rest) = self.text.split_once("\n\n").unwrap();
        let fields = event.lines().map(|line| line.split_once(':').unwrap());
        let fields = fields.map(|(name, value)| (name.to_owned(), value.trim_start().to_owned()));
        let event = fields.collect();
        self.text = rest.to_owned();
        Some(event)
    }

    /// The one message of the next event, which has this name.
    async fn message(&mut self, name: &str) -> (Value, Option<String>) {
        loop {
            let event = self.next().await.unwrap();
            if event.contains_key("") {
                continue;
            }
            assert_eq!(event["event"], name, "{event:?}");
            let data: Value = serde_json::from_str(&event["data"]).unwrap();
            return (data["messages"][0].clone(), event.get("id").cloned());
        }
    }

    /// The data of the next publications, and the last id.
    async fn published(&mut self, count: usize) -> (Vec<Value>, String) {
        let (mut all, mut last) = (vec![], None);
        while all.len() < count {
            let (message, id) = self.message("message").await;
            let publications = message["publications"]["publications"].as_array();
            all.extend(publications.into_iter().flatten().map(|it| it["data"]["json"].clone()));
            last = id;
        }
        (all, last.unwrap())
    }
}

async fn publish(client: &mut Client, channel: &str, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert!(client.publish(channel, json!(number)).await["published"].is_object());
    }
}

#[tokio::test]
async fn a_stream_tells_what_is_published_and_goes_on_from_its_last_id() {
    let edge = edge("").await;
    let app = App::attach(&edge).await;
    let alice = token("alice", "");
    let query = format!("?channel=chat%3Aa&channel=live:b&access_token={alice}");
    let mut events = Events::open(&edge, &query, None).await;
    let connected = events.message("connected").await.0;
    assert!(connected["connected"]["ticket"]["ticket"].is_string(), "{connected}");
    for _ in 0..2 {
        events.message("subscribed").await;
    }
    assert_eq!(app.asks()[0].actor.as_ref().unwrap().subject, "alice");
    let mut client = Client::new(edge.at.public).await;
    publish(&mut client, "chat:a", 0..3).await;
    let (data, last) = events.published(3).await;
    assert_eq!(data, [0, 1, 2].map(Value::from));
    drop(events);
    publish(&mut client, "chat:a", 3..6).await;
    let asked = app.asks().len();
    let mut events = Events::open(&edge, &query, Some(&last)).await;
    let (connected, _) = events.message("connected").await;
    let back = connected["connected"]["subscriptions"].as_array().unwrap();
    let chat = back.iter().find(|it| it["channel"] == "chat:a").unwrap();
    assert_eq!(chat["recovered"], true, "{connected}");
    let missed = chat["publications"].as_array().cloned().unwrap_or_default();
    let mut data: Vec<Value> = missed.iter().map(|it| it["data"]["json"].clone()).collect();
    if data.len() < 3 {
        data.extend(events.published(3 - data.len()).await.0);
    }
    assert_eq!(data, [3, 4, 5].map(Value::from));
    assert_eq!(app.asks().len(), asked, "the id's ticket is enough");
}

#[tokio::test]
async fn a_last_id_whose_ticket_has_ended_still_names_the_places() {
    let edge = edge("ticket_ttl = \"1s\"").await;
    let app = App::attach(&edge).await;
    let mut events = Events::open(&edge, "?channel=chat:a", None).await;
    events.message("connected").await;
    events.message("subscribed").await;
    let mut client = Client::new(edge.at.public).await;
    publish(&mut client, "chat:a", 0..1).await;
    let (_, last) = events.published(1).await;
    drop(events);
    publish(&mut client, "chat:a", 1..3).await;
    let asked = app.asks().len();
    tokio::time::sleep(std::time::Duration::from_millis(2_200)).await;
    let mut events = Events::open(&edge, "?channel=chat:a", Some(&last)).await;
    let connected = events.message("connected").await.0;
    assert!(connected["connected"]["resumed"] != true, "{connected}");
    let subscribed = events.message("subscribed").await.0["subscribed"].clone();
    assert_eq!(subscribed["recovered"], true, "{subscribed}");
    let mut data: Vec<Value> = subscribed["publications"].as_array().cloned().unwrap_or_default();
    data = data.iter().map(|it| it["data"]["json"].clone()).collect();
    if data.len() < 2 {
        data.extend(events.published(2 - data.len()).await.0);
    }
    assert_eq!(data, [1, 2].map(Value::from));
    assert_eq!(app.asks().len(), asked + 2, "asked anew");
}

#[tokio::test]
async fn it_works_over_http_2_and_says_that_it_lives() {
    let edge = edge("heartbeat = \"100ms\"").await;
    let _app = App::attach(&edge).await;
    let mut client = http2::Client::new(edge.at.public).await;
    let mut events = Events::of(client.get(&format!("{PATH}?channel=open:a")).await);
    events.message("connected").await;
    events.message("subscribed").await;
    // Longer than a silent client of a WebSocket would be let be.
    for _ in 0..5 {
        assert!(events.next().await.is_some());
    }
    let mut writer = Client::new(edge.at.public).await;
    publish(&mut writer, "open:a", 0..1).await;
    loop {
        let event = events.next().await.unwrap();
        if event.get("data").is_some_and(|data| data.contains("publications")) {
            return;
        }
    }
}

#[tokio::test]
async fn what_is_refused_before_the_first_byte_is_a_problem() {
    let edge = edge("").await;
    let _app = App::attach(&edge).await;
    let refused = async |query: &str| {
        let answer = get(edge.at.public, &format!("{PATH}{query}")).await;
        (answer.status.as_u16(), answer.code())
    };
    let is = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(refused("").await, is(400, "invalid_argument"));
    assert_eq!(refused("?chanel=open:a").await, is(400, "invalid_argument"));
    assert_eq!(refused("?channel=open:a&channel=open:a").await, is(400, "invalid_argument"));
    assert_eq!(refused("?channel=nothing:a").await, is(404, "not_found"));
    assert_eq!(refused("?channel=chat:private").await, is(403, "permission_denied"));
    assert_eq!(refused("?channel=open:a&access_token=x").await, is(401, "unauthenticated"));
    assert_eq!(refused("?channel=open:a&ticket=x").await, is(401, "unauthenticated"));
    let mut events = Events::open(&edge, "?channel=chat:private&channel=open:a", None).await;
    events.message("connected").await;
    let mut names = vec![];
    for _ in 0..2 {
        let event = events.next().await.unwrap();
        names.push(event["event"].clone());
    }
    names.sort();
    assert_eq!(names, ["error", "subscribed"], "one of them stands");
}

#[tokio::test]
async fn a_stream_that_goes_away_is_no_connection_any_more() {
    let edge = edge("").await;
    let _app = App::attach(&edge).await;
    let events = Events::open(&edge, "?channel=open:a", None).await;
    assert_eq!(crate::faults::metric(&edge, "gateway_channels_connections").await, 1);
    drop(events);
    within(async {
        while crate::faults::metric(&edge, "gateway_channels_connections").await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_drain_ends_a_stream_with_a_time_to_come_back() {
    let edge = edge("").await;
    let _app = App::attach(&edge).await;
    let mut events = Events::open(&edge, "?channel=open:a", None).await;
    let stopping = tokio::spawn(edge.gateway.stop());
    let mut closing = None;
    while let Some(event) = events.next().await {
        if event.get("event").is_some_and(|name| name == "closing") {
            closing = Some(event);
        }
    }
    let closing = closing.expect("a closing event");
    assert!(closing["retry"].parse::<u64>().is_ok(), "{closing:?}");
    assert!(closing["data"].contains("DRAINING"), "{closing:?}");
    within(stopping).await.unwrap();
}
