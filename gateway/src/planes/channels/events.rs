//! Channels as server-sent events: `GET {path}/events?channel=a&channel=b`. The plane connects and subscribes for the
//! client. The answer's head waits for the replies, so that what is refused is an ordinary HTTP error.

use super::{
    Limits,
    event::{self, Reply},
    identity, problems,
    query::{pairs, refuse},
};
use crate::edge::{Body, BodyError, Code, Context, Problem, trace};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use hub::{
    Client, Hub, Identity, Outbox, Wire,
    proto::{Command, Connect, ErrorCode, Position, Resume, Subscribe, command, server_message},
};
use hyper::body::Incoming;
use std::{collections::VecDeque, time::Duration};
use tokio::time::timeout_at;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// What may come before the last subscription is decided on; the head waits for no more.
const EARLY: usize = 256 << 10;
/// The command that connects. Channel number n of the query is subscribed to by command n + 2.
const CONNECT: u32 = 1;
const FIRST_CHANNEL: u32 = 2;

/// What the client wants.
struct Wanted {
    channels: Vec<String>,
    /// Of an earlier connection.
    ticket: String,
    /// The ticket is the query's own: what is wrong with it is the client's to know.
    asked: bool,
    /// Places to go on from.
    places: Vec<Resume>,
}

/// Answers with the stream.
pub(super) async fn serve(
    hub: &Hub,
    limits: Limits,
    request: &Request<Incoming>,
    context: &Context,
) -> Result<Response<Body>, Problem> {
    let mut wanted = wanted(request)?;
    let caller = identity::of(&context.caller);
    let events = loop {
        match Events::open(hub, limits, caller.clone(), &wanted, context).await? {
            Ok(events) => break events,
            // An EventSource repeats its Last-Event-ID for ever: an old ticket there is as good as none.
            Err(_) => wanted.ticket.clear(),
        }
    };
    let body = stream::unfold(events, |mut events| async move {
        let piece = events.next().await?;
        Some((Ok::<_, BodyError>(Frame::data(piece)), events))
    });
    let mut response = Response::new(Body::stream(StreamBody::new(body)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn wanted(request: &Request<Incoming>) -> Result<Wanted, Problem> {
    let (mut channels, mut ticket) = (vec![], String::new());
    for (name, value) in pairs(request.uri().query(), &["channel", "ticket"])? {
        match name.as_str() {
            "channel" if channels.contains(&value) => {
                return Err(refuse(format!("The query has the channel {value:?} twice.")));
            }
            "channel" => channels.push(value),
            _ => ticket = value,
        }
    }
    if channels.is_empty() {
        return Err(refuse("The query needs a channel: ?channel=….".into()));
    }
    let asked = !ticket.is_empty();
    let last = request.headers().get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let Some((last_ticket, places)) = last.and_then(Client::resume) else {
        return Ok(Wanted { channels, ticket, asked, places: vec![] });
    };
    let ticket = if asked { ticket } else { last_ticket };
    Ok(Wanted { channels, ticket, asked, places })
}

impl Wanted {
    fn place(&self, channel: &str) -> Option<Position> {
        self.places.iter().find(|place| place.channel == channel)?.from.clone()
    }

    fn connect(&self) -> command::Kind {
        let resume = |channel: &String| Resume { channel: channel.clone(), from: self.place(channel) };
        command::Kind::Connect(Connect {
            ticket: self.ticket.clone(),
            resume: match self.ticket.is_empty() {
                true => vec![],
                false => self.channels.iter().map(resume).collect(),
            },
            ..Connect::default()
        })
    }
}

/// A connection with what came before the head.
struct Events {
    client: Client,
    outbox: Outbox,
    early: VecDeque<Bytes>,
    heartbeat: Duration,
    over: bool,
}

/// The ticket was refused, and the client did not ask for it by name.
struct StaleTicket;

impl Events {
    async fn open(
        hub: &Hub,
        limits: Limits,
        caller: Identity,
        wanted: &Wanted,
        context: &Context,
    ) -> Result<Result<Self, StaleTicket>, Problem> {
        let opened = hub.open(caller, Wire::EventStream);
        let (client, outbox) = opened.map_err(|closing| problems::of_closing(&closing))?;
        let mut events =
            Self { client, outbox, early: VecDeque::new(), heartbeat: limits.heartbeat, over: false };
        let within = tokio::time::Instant::from_std(context.deadline);
        let begun = timeout_at(within, events.begin(wanted)).await;
        let begun =
            begun.map_err(|_| Problem::new(Code::GatewayTimeout, "The connect was not decided in time."))?;
        Ok(begun?.map(|()| events))
    }

    /// Connects and subscribes.
    async fn begin(&mut self, wanted: &Wanted) -> Result<Result<(), StaleTicket>, Problem> {
        self.command(CONNECT, wanted.connect())?;
        let connected = match self.reply(|id| id == CONNECT).await? {
            Some(Reply { kind: server_message::Kind::Connected(connected), .. }) => connected,
            Some(Reply { kind: server_message::Kind::Error(error), .. }) => {
                let ticket = matches!(
                    error.code(),
                    ErrorCode::Expired | ErrorCode::Unauthenticated | ErrorCode::Invalid
                );
                if ticket && !wanted.ticket.is_empty() && !wanted.asked {
                    return Ok(Err(StaleTicket));
                }
                return Err(problems::of_error(&error));
            }
            _ => return Err(Problem::new(Code::Internal, "The reply is of another kind.")),
        };
        let standing = |channel: &String| {
            connected.subscriptions.iter().any(|it| it.channel == *channel && it.error.is_none())
        };
        let missing: Vec<_> =
            (FIRST_CHANNEL..).zip(&wanted.channels).filter(|(_, channel)| !standing(channel)).collect();
        for (id, channel) in &missing {
            let subscribe = Subscribe {
                channel: (*channel).clone(),
                from: wanted.place(channel),
                ..Subscribe::default()
            };
            self.command(*id, command::Kind::Subscribe(subscribe))?;
        }
        self.decided(missing.len(), missing.len() < wanted.channels.len()).await.map(Ok)
    }

    fn command(&mut self, id: u32, kind: command::Kind) -> Result<(), Problem> {
        let command = Command { id, kind: Some(kind) };
        let done = self.client.command(command, &trace::fresh());
        done.map_err(|closing| problems::of_closing(&closing))
    }

    /// Waits until all subscriptions are decided on; an error where none stands.
    async fn decided(&mut self, count: usize, mut stands: bool) -> Result<(), Problem> {
        let mut refused = None;
        for _ in 0..count {
            match self.reply(|id| id >= FIRST_CHANNEL).await? {
                Some(Reply { kind: server_message::Kind::Error(error), .. }) => {
                    refused.get_or_insert(error);
                }
                Some(_) => stands = true,
                None => return Ok(()),
            }
        }
        match refused {
            Some(error) if !stands => Err(problems::of_error(&error)),
            _ => Ok(()),
        }
    }

    /// The next such reply. All that comes is kept for the stream; none: too much of it.
    async fn reply(&mut self, wanted: impl Fn(u32) -> bool) -> Result<Option<Reply>, Problem> {
        let mut held = self.early.iter().map(Bytes::len).sum::<usize>();
        loop {
            let Some(piece) = self.take().await else {
                let closing = self.outbox.closing();
                return Err(closing.as_ref().map_or_else(problems::stopping, problems::of_closing));
            };
            let reply = event::reply(&piece).filter(|reply| wanted(reply.id));
            held += piece.len();
            self.early.push_back(self.finished(piece));
            if reply.is_some() {
                return Ok(reply);
            }
            if held > EARLY {
                return Ok(None);
            }
        }
    }

    /// The next piece of the hub's; none: it has closed the connection.
    async fn take(&mut self) -> Option<Bytes> {
        let mut pieces = Vec::with_capacity(1);
        loop {
            // One at a time, so that each has the id that is true after it.
            self.outbox.take(&mut pieces, 1);
            if let Some(piece) = pieces.pop() {
                return Some(piece);
            }
            if self.outbox.closing().is_some() {
                return None;
            }
            self.outbox.ready().await;
        }
    }

    fn finished(&self, piece: Bytes) -> Bytes {
        event::finish(&piece, &self.outbox.positions())
    }

    /// What is sent next: an event, or a comment after a silence.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(early) = self.early.pop_front() {
            return Some(early);
        }
        if self.over {
            return None;
        }
        match tokio::time::timeout(self.heartbeat, self.take()).await {
            Ok(Some(piece)) => Some(self.finished(piece)),
            Ok(None) => {
                self.over = true;
                None
            }
            Err(_) => Some(Bytes::from_static(b":\n\n")),
        }
    }
}
