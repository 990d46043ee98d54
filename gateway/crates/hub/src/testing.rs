//! What tests share: clients and applications without transports, a random source with a seed, and tokens that say who
//! they are of.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::proto::{
    Answer, AttachRequest, AttachResponse, ChannelKind, Command, Connect, Connected, Decision, Emit, Hello,
    Namespace, Payload, Position, ServerFrame, ServerMessage, Subscribe, Subscribed, answer, ask,
    attach_request, attach_response, command, server_message,
};
use crate::{
    Authenticate, Authenticated, Client, Closing, Denied, Hub, Identity, Kind, Link, Outbox, Settings, Wire,
};

pub(crate) mod random;

/// `ann` is a token of ann; `ann@5` one that ends five seconds from now; `expired` and `bad` are refused.
pub(crate) struct Tokens;

impl Authenticate for Tokens {
    fn authenticate<'a>(&'a self, token: &'a str) -> Authenticated<'a> {
        Box::pin(async move {
            match token.split_once('@') {
                _ if token == "bad" => Err(Denied::Invalid),
                _ if token == "expired" => Err(Denied::Expired),
                Some((subject, seconds)) => Ok(user_until(subject, seconds.parse().expect("seconds"))),
                None => Ok(user(token)),
            }
        })
    }
}

pub(crate) fn user(subject: &str) -> Identity {
    Identity { subject: subject.into(), kind: Kind::User, scope: "notes".into(), expires: None }
}

pub(crate) fn user_until(subject: &str, seconds: u64) -> Identity {
    Identity { expires: Some(crate::clock::unix_ms() / 1000 + seconds), ..user(subject) }
}

pub(crate) fn hub() -> Hub {
    hub_with(Settings::default())
}

pub(crate) fn hub_with(settings: Settings) -> Hub {
    Hub::new(settings, b"secret", Arc::new(Tokens))
}

/// Settings that let tests be as quick as they like.
pub(crate) fn unlimited() -> Settings {
    Settings {
        commands_per_second: 1_000_000,
        publications_per_second: 1_000_000,
        channel_publications_per_second: 1_000_000,
        ..Settings::default()
    }
}

/// One side of a channels connection.
pub(crate) struct Peer {
    pub(crate) client: Client,
    pub(crate) outbox: Outbox,
    wire: Wire,
    heard: VecDeque<ServerMessage>,
    ids: u32,
}

pub(crate) fn peer(hub: &Hub) -> Peer {
    peer_of(hub, user("ann"), Wire::WebSocketJson)
}

pub(crate) fn peer_of(hub: &Hub, identity: Identity, wire: Wire) -> Peer {
    let (client, outbox) = hub.open(identity, wire).expect("there is room");
    Peer { client, outbox, wire, heard: VecDeque::new(), ids: 0 }
}

/// A peer whose session is open, where nobody is asked about connects.
pub(crate) async fn connected(hub: &Hub) -> Peer {
    let mut peer = peer(hub);
    peer.connect(Connect::default()).await;
    peer
}

impl Peer {
    /// Says a command; gives its id.
    pub(crate) fn say(&mut self, kind: command::Kind) -> u32 {
        self.try_say(kind).expect("the connection is open")
    }

    pub(crate) fn try_say(&mut self, kind: command::Kind) -> Result<u32, Closing> {
        self.ids += 1;
        self.client.command(Command { id: self.ids, kind: Some(kind) }, "00-trace")?;
        Ok(self.ids)
    }

    /// Says a command and waits for its reply; pushes that come before stay to be heard.
    pub(crate) async fn ask(&mut self, kind: command::Kind) -> server_message::Kind {
        let id = self.say(kind);
        self.reply(id).await
    }

    pub(crate) async fn reply(&mut self, id: u32) -> server_message::Kind {
        let mut index = 0;
        loop {
            if index == self.heard.len() {
                self.hear().await;
                continue;
            }
            if self.heard[index].id == id {
                return self.heard.remove(index).and_then(|message| message.kind).expect("a kind");
            }
            index += 1;
        }
    }

    pub(crate) async fn connect(&mut self, connect: Connect) -> Connected {
        match self.ask(command::Kind::Connect(connect)).await {
            server_message::Kind::Connected(connected) => connected,
            other => panic!("not connected: {other:?}"),
        }
    }

    pub(crate) async fn subscribe(&mut self, channel: &str, from: Option<Position>) -> Subscribed {
        match self.ask(command::Kind::Subscribe(subscribe(channel, from))).await {
            server_message::Kind::Subscribed(subscribed) => subscribed,
            other => panic!("not subscribed: {other:?}"),
        }
    }

    /// The newest ticket, of those that were pushed.
    pub(crate) async fn ticket(&mut self) -> String {
        loop {
            if let server_message::Kind::Ticket(ticket) = self.next().await {
                return ticket.ticket;
            }
        }
    }

    /// Waits for the next message.
    pub(crate) async fn next(&mut self) -> server_message::Kind {
        while self.heard.is_empty() {
            self.hear().await;
        }
        self.heard.pop_front().and_then(|message| message.kind).expect("a kind")
    }

    /// The next push of publications: their offsets.
    pub(crate) async fn offsets(&mut self) -> Vec<u64> {
        loop {
            if let server_message::Kind::Publications(pushed) = self.next().await {
                return pushed.publications.iter().map(|publication| publication.offset).collect();
            }
        }
    }

    async fn hear(&mut self) {
        timeout(Duration::from_secs(600), self.outbox.ready()).await.expect("something comes");
        assert!(
            self.take(usize::MAX) || self.outbox.closing().is_none(),
            "closed: {:?}",
            self.outbox.closing()
        );
    }

    /// Reads what is there; false: nothing was.
    pub(crate) fn take(&mut self, max: usize) -> bool {
        let mut pieces = vec![];
        self.outbox.take(&mut pieces, max);
        pieces.iter().for_each(|piece| self.heard.extend(unframe(self.wire, piece).messages));
        !pieces.is_empty()
    }

    /// What is there now, without waiting.
    pub(crate) fn now(&mut self) -> Vec<server_message::Kind> {
        while self.take(usize::MAX) {}
        self.heard.drain(..).filter_map(|message| message.kind).collect()
    }

    /// Waits for the end of the connection.
    pub(crate) async fn closed(&mut self) -> Closing {
        loop {
            timeout(Duration::from_secs(600), self.outbox.ready()).await.expect("something comes");
            while self.take(usize::MAX) {}
            if let Some(closing) = self.outbox.closing() {
                return closing;
            }
        }
    }
}

/// The messages of one framed piece.
pub(crate) fn unframe(wire: Wire, piece: &[u8]) -> ServerFrame {
    if wire == Wire::EventStream {
        let text = std::str::from_utf8(piece).expect("text");
        let data = text.split_once("data: ").expect("data").1;
        return serde_json::from_str(data).expect("JSON");
    }
    let skip = match piece[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    match wire {
        Wire::WebSocketJson => serde_json::from_slice(&piece[skip..]).expect("JSON"),
        _ => ServerFrame::decode(&piece[skip..]).expect("protobuf"),
    }
}

/// An attached application.
pub(crate) struct App {
    pub(crate) link: Link,
    pub(crate) told: mpsc::Receiver<AttachResponse>,
}

/// An application that serves a stream `chat`, a live `live`, a latest `board`, all open to everybody, and `asks`, where it
/// is asked; and is not asked about connects.
pub(crate) async fn app(hub: &Hub) -> App {
    app_with(hub, hello()).await
}

pub(crate) fn hello() -> Hello {
    let open = |name, kind| namespace(name, kind, Decision::Allow);
    let namespaces = vec![
        open("chat", ChannelKind::Stream),
        open("live", ChannelKind::Live),
        open("board", ChannelKind::Latest),
        namespace("asks", ChannelKind::Stream, Decision::Ask),
    ];
    Hello { version: 1, namespaces, methods: vec!["chat".into()], ..Hello::default() }
}

pub(crate) fn namespace(name: &str, kind: ChannelKind, decision: Decision) -> Namespace {
    let (kind, decision) = (kind.into(), decision.into());
    Namespace { name: name.into(), kind, subscribe: decision, publish: decision, ..Namespace::default() }
}

pub(crate) async fn app_with(hub: &Hub, hello: Hello) -> App {
    let (link, told) = hub.attach("realtime");
    let mut app = App { link, told };
    app.say(attach_request::Kind::Hello(hello));
    assert!(matches!(app.next().await, attach_response::Kind::Welcome(_)));
    app
}

impl App {
    pub(crate) fn say(&mut self, kind: attach_request::Kind) {
        self.link.receive(AttachRequest { kind: Some(kind) }).expect("the link is open");
    }

    pub(crate) async fn next(&mut self) -> attach_response::Kind {
        let told = timeout(Duration::from_secs(600), self.told.recv()).await.expect("something comes");
        told.and_then(|told| told.kind).expect("the link is open")
    }

    /// Waits for an ask.
    pub(crate) async fn asked(&mut self) -> (u64, ask::Kind, bool) {
        match self.next().await {
            attach_response::Kind::Ask(ask) => (ask.id, ask.kind.expect("a kind"), ask.again),
            other => panic!("not an ask: {other:?}"),
        }
    }

    pub(crate) fn answer(&mut self, id: u64, kind: answer::Kind) {
        self.say(attach_request::Kind::Answer(Answer { id, kind: Some(kind) }));
    }

    pub(crate) fn emit(&mut self, channel: &str, text: &str) {
        let data = Some(Payload::json(text));
        self.say(attach_request::Kind::Emit(Emit { channel: channel.into(), data, ..Emit::default() }));
    }
}

pub(crate) fn subscribe(channel: &str, from: Option<Position>) -> Subscribe {
    Subscribe { channel: channel.into(), from, data: None }
}

pub(crate) fn publish(channel: &str, text: &str, key: &str) -> command::Kind {
    command::Kind::Publish(crate::proto::Publish {
        channel: channel.into(),
        data: Some(Payload::json(text)),
        key: key.into(),
        latest_key: String::new(),
    })
}

pub(crate) fn error_code(kind: &server_message::Kind) -> crate::proto::ErrorCode {
    match kind {
        server_message::Kind::Error(error) => error.code(),
        other => panic!("not an error: {other:?}"),
    }
}
