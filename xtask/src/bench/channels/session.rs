//! A client of one channel, in the protocol of any contestant: opens, subscribes, answers heartbeats, and can come back
//! to where it was.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    marks,
    socket::{Frame, Socket},
    wire::{Ask, Command, Connect, Empty, Encoding, Position, Said, ServerMessage, Subscribe},
};

/// Whose protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// `hybrid.channels.v1`.
    Channels(Encoding),
    /// Centrifugo's client protocol.
    Centrifuge(Encoding),
    /// Socket.IO 5 over Engine.IO 4, WebSocket only.
    SocketIo,
    /// A bare WebSocket; the backend subscribes it by GRIP.
    Grip,
    /// A streaming HTTP response; the backend holds it by GRIP.
    GripStream,
}

/// Where a client goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Door {
    /// `host:port`.
    pub address: String,
    /// The WebSocket's path.
    pub path: String,
    /// Whose protocol.
    pub dialect: Dialect,
}

/// The channel of the benchmarks; Socket.IO's room and GRIP's channel are the backends' matter.
pub const CHANNEL: &str = "bench:all";

/// Where a client was, so that it can go on there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// What resumes the session: a ticket, or Socket.IO's private session id.
    pub ticket: String,
    /// The history's name, where there is one.
    pub epoch: String,
    /// The last message's offset, as the protocol writes it.
    pub offset: String,
}

/// What came of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// So many messages.
    Messages(usize),
    /// The server closed: code and reason.
    Closed(u16, String),
}

/// An open and subscribed client.
#[derive(Debug)]
pub struct Session {
    /// The connection.
    pub socket: Socket,
    /// Where it is; kept up to date only by [`Session::next`] with `track`.
    pub place: Place,
    /// Whether it went on where it was.
    pub recovered: bool,
    dialect: Dialect,
    /// What was missed and came with the subscription: marks of numbers and times.
    early: Vec<(u64, u64)>,
}

impl Session {
    /// Opens a connection and subscribes to [`CHANNEL`], from `place` on where there is one.
    pub async fn open(door: &Door, place: Option<&Place>) -> Result<Self> {
        let (subprotocol, path) = match door.dialect {
            Dialect::Channels(encoding) => (encoding.subprotocol(), door.path.as_str()),
            Dialect::Centrifuge(Encoding::Protobuf) => ("centrifuge-protobuf", door.path.as_str()),
            _ => ("", door.path.as_str()),
        };
        let socket = match door.dialect {
            Dialect::GripStream => Socket::response(&door.address, path).await?,
            _ => Socket::open(&door.address, path, subprotocol, "").await?,
        };
        let mut session = Self {
            socket,
            place: place.cloned().unwrap_or_default(),
            recovered: false,
            dialect: door.dialect,
            early: Vec::new(),
        };
        match door.dialect {
            Dialect::Channels(encoding) => session.channels(encoding, place.is_some()).await?,
            Dialect::Centrifuge(Encoding::Json) => session.centrifuge(place.is_some()).await?,
            Dialect::Centrifuge(Encoding::Protobuf) => session.centrifuge_protobuf().await?,
            Dialect::SocketIo => session.socket_io(place.is_some()).await?,
            Dialect::Grip | Dialect::GripStream => {
                session.until("the subscription", |frame| Ok((frame == b"ready").then_some(()))).await?;
            }
        }
        Ok(session)
    }

    /// Takes one frame, answers it if it is a heartbeat, and calls `on` with the number and the time of each message.
    /// With `track` the place is kept up to date, and the chain of offsets is checked, where the protocol has one.
    pub async fn next(&mut self, track: bool, mut on: impl FnMut(u64, u64)) -> Result<Step> {
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            early.iter().for_each(|(number, at)| on(*number, *at));
            return Ok(Step::Messages(early.len()));
        }
        let answer = match self.socket.frame().await? {
            Frame::Message(bytes) => {
                let count = marks::scan(bytes, on);
                if track {
                    note(self.dialect, bytes, &mut self.place)?;
                }
                if count > 0 {
                    return Ok(Step::Messages(count));
                }
                pong(self.dialect, bytes)?
            }
            Frame::Ping(bytes) => {
                let bytes = bytes.to_vec();
                self.socket.send_frame(0x8a, &bytes).await?;
                return Ok(Step::Messages(0));
            }
            Frame::Close(code, reason) => {
                return Ok(Step::Closed(code, String::from_utf8_lossy(reason).into_owned()));
            }
            Frame::Pong => None,
        };
        if let Some(answer) = answer {
            self.socket.send(self.dialect.is_text(), &answer).await?;
        }
        Ok(Step::Messages(0))
    }

    /// Reads frames until `take` finds what it looks for.
    async fn until<T>(&mut self, what: &str, mut take: impl FnMut(&[u8]) -> Result<Option<T>>) -> Result<T> {
        loop {
            match self.socket.frame().await.with_context(|| format!("waiting for {what}"))? {
                Frame::Message(bytes) => {
                    if let Some(found) = take(bytes)? {
                        return Ok(found);
                    }
                }
                Frame::Close(code, reason) => {
                    bail!("closed with {code} {} before {what}", String::from_utf8_lossy(reason))
                }
                Frame::Ping(_) | Frame::Pong => {}
            }
        }
    }

    async fn channels(&mut self, encoding: Encoding, resume: bool) -> Result<()> {
        let place = self.place.clone();
        let from = Position { epoch: place.epoch, offset: place.offset.parse().unwrap_or(0) };
        let subscription = |from| Subscribe { channel: CHANNEL.into(), from };
        let mut connect = Connect { client: "bench".into(), ..Connect::default() };
        if resume {
            connect.ticket = place.ticket;
            connect.resume = vec![subscription(Some(from))];
        }
        let mut commands = vec![Command { id: 1, ask: Some(Ask::Connect(connect)) }];
        if !resume {
            commands.push(Command { id: 2, ask: Some(Ask::Subscribe(subscription(None))) });
        }
        self.socket.send(encoding == Encoding::Json, &encoding.encode(commands)).await?;
        let (mut ticket, mut early, mut after) = (String::new(), Vec::new(), Vec::new());
        let subscribed = self
            .until("the subscription", |frame| {
                let mut found = None;
                for message in encoding.decode(frame)? {
                    match message.said {
                        Some(Said::Connected(connected)) => {
                            ticket = connected.ticket.unwrap_or_default().ticket;
                            ensure!(!resume || connected.resumed, "the ticket was not taken");
                            found = connected.subscriptions.into_iter().next().or(found);
                        }
                        Some(Said::Subscribed(subscribed)) => found = Some(subscribed),
                        Some(Said::Error(error)) => bail!("{}: {}", error.name(), error.message),
                        _ => {}
                    }
                }
                // All of a frame counts: publications may follow in the one that says where they begin.
                if found.is_some() {
                    marks::scan(frame, |number, at| early.push((number, at)));
                    after = encoding.decode(frame)?;
                }
                Ok(found)
            })
            .await?;
        if let Some(error) = &subscribed.error {
            bail!("{}: {}", error.name(), error.message);
        }
        let position = subscribed.position.unwrap_or_default();
        self.place = Place { ticket, epoch: position.epoch, offset: position.offset.to_string() };
        (self.recovered, self.early) = (resume && subscribed.recovered, early);
        after.iter().try_for_each(|message| follow(message, &mut self.place))
    }

    async fn centrifuge(&mut self, resume: bool) -> Result<()> {
        let mut subscribe = json!({"channel": CHANNEL});
        if resume {
            subscribe = json!({"channel": CHANNEL, "recover": true, "epoch": self.place.epoch,
                "offset": self.place.offset.parse::<u64>().unwrap_or(0)});
        }
        let commands =
            format!("{}\n{}", json!({"id": 1, "connect": {}}), json!({"id": 2, "subscribe": subscribe}));
        self.socket.send(true, commands.as_bytes()).await?;
        let mut early = Vec::new();
        let place = self
            .until("the subscription", |frame| {
                let mut found = None;
                for line in frame.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let reply: Value = serde_json::from_slice(line)?;
                    ensure!(reply["error"].is_null(), "refused: {reply}");
                    if reply["id"] == 2 {
                        found = Some(reply["subscribe"].clone());
                    }
                    if found.is_some() {
                        marks::scan(line, |number, at| early.push((number, at)));
                    }
                }
                Ok(found)
            })
            .await?;
        self.recovered = place["recovered"] == true;
        self.early = early;
        // With publications the offset is that of the last one.
        self.place = Place {
            ticket: String::new(),
            epoch: place["epoch"].as_str().unwrap_or_default().into(),
            offset: place["offset"].as_u64().unwrap_or(0).to_string(),
        };
        Ok(())
    }

    /// Only what fan-out and idle connections need: no recovery.
    async fn centrifuge_protobuf(&mut self) -> Result<()> {
        // Length, id 1, connect {}; length, id 2, subscribe {channel}.
        let mut commands = vec![4, 0x08, 1, 0x22, 0];
        let channel = CHANNEL.as_bytes();
        commands.extend([6 + channel.len() as u8, 0x08, 2, 0x2a, 2 + channel.len() as u8, 0x0a]);
        commands.push(channel.len() as u8);
        commands.extend(channel);
        self.socket.send(false, &commands).await?;
        self.until("the subscription", |frame| {
            let mut rest = frame;
            while !rest.is_empty() {
                let length = prost::decode_length_delimiter(&mut rest)?;
                let (reply, after) = rest.split_at_checked(length).context("a reply that is cut")?;
                ensure!(!reply.starts_with(&[0x08, 2, 0x12]), "refused: {reply:?}");
                if reply.starts_with(&[0x08, 2]) {
                    return Ok(Some(()));
                }
                rest = after;
            }
            Ok(None)
        })
        .await
    }

    async fn socket_io(&mut self, resume: bool) -> Result<()> {
        self.until("engine.io's opening", |frame| Ok(frame.starts_with(b"0{").then_some(()))).await?;
        let mut connect = "40".to_owned();
        if resume {
            connect += &json!({"pid": self.place.ticket, "offset": self.place.offset}).to_string();
        }
        self.socket.send(true, connect.as_bytes()).await?;
        // What was missed comes before the namespace is said to be open.
        let (mut place, mut early) = (self.place.clone(), Vec::new());
        let connected: Value = self
            .until("the namespace", |frame| {
                marks::scan(frame, |number, at| early.push((number, at)));
                note(Dialect::SocketIo, frame, &mut place)?;
                Ok(frame.strip_prefix(b"40").map(serde_json::from_slice).transpose()?)
            })
            .await?;
        self.early = early;
        let pid = connected["pid"].as_str().unwrap_or_default().to_owned();
        self.recovered = resume && pid == self.place.ticket;
        self.place = Place { ticket: pid, ..place };
        Ok(())
    }
}

impl Dialect {
    fn is_text(self) -> bool {
        !matches!(self, Self::Channels(Encoding::Protobuf) | Self::Centrifuge(Encoding::Protobuf))
    }
}

/// The answer to a frame without messages, if it asks for one.
fn pong(dialect: Dialect, frame: &[u8]) -> Result<Option<Vec<u8>>> {
    Ok(match dialect {
        Dialect::SocketIo => (frame == b"2").then(|| b"3".to_vec()),
        Dialect::Centrifuge(Encoding::Json) => (frame.trim_ascii() == b"{}").then(|| b"{}".to_vec()),
        Dialect::Centrifuge(Encoding::Protobuf) => (frame == [0]).then(|| vec![0]),
        Dialect::Grip | Dialect::GripStream => None,
        Dialect::Channels(encoding) => {
            let messages = encoding.decode(frame)?;
            let asked = messages.iter().any(|message| matches!(message.said, Some(Said::Heartbeat(_))));
            asked.then(|| encoding.encode(vec![Command { id: 0, ask: Some(Ask::Ping(Empty {})) }]))
        }
    })
}

/// Notes in `place` how far a frame goes.
fn note(dialect: Dialect, frame: &[u8], place: &mut Place) -> Result<()> {
    match dialect {
        Dialect::Channels(encoding) => {
            for message in encoding.decode(frame)? {
                follow(&message, place)?;
            }
        }
        Dialect::Centrifuge(_) => {
            for line in frame.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let reply: Value = serde_json::from_slice(line)?;
                if let Some(offset) = reply["push"]["pub"]["offset"].as_u64() {
                    place.offset = offset.to_string();
                }
            }
        }
        Dialect::SocketIo => {
            // 42["m", message, offset]
            if let Some(event) = frame.strip_prefix(b"42") {
                let event: Value = serde_json::from_slice(event)?;
                place.offset = event[2].as_str().context("an event without an offset")?.to_owned();
            }
        }
        Dialect::Grip | Dialect::GripStream => {}
    }
    Ok(())
}

/// Follows the chain: each publication names the offset before it.
fn follow(message: &ServerMessage, place: &mut Place) -> Result<()> {
    match &message.said {
        Some(Said::Publications(pushed)) => {
            for publication in &pushed.publications {
                let had = place.offset.parse::<u64>().unwrap_or(0);
                ensure!(
                    publication.previous == had,
                    "offset {} follows {}, not {had}",
                    publication.offset,
                    publication.previous
                );
                place.offset = publication.offset.to_string();
            }
        }
        Some(Said::Ticket(ticket)) => place.ticket.clone_from(&ticket.ticket),
        _ => {}
    }
    Ok(())
}
