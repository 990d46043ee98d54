//! A client as an application's user has one: it asks and waits for the reply, and keeps what is pushed meanwhile.

use std::collections::VecDeque;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{
    socket::{Frame, Socket},
    wire::{
        Ask, Call, Command, Connect, Connected, Empty, Encoding, Error, Payload, Publish, Published, Said,
    },
};

/// Where the gateway's WebSockets are.
pub const PATH: &str = "/channels/v1/websocket";

/// An open connection.
#[derive(Debug)]
pub struct User {
    /// The connection, for tests that break it.
    pub socket: Socket,
    /// What the gateway said to the connect.
    pub connected: Connected,
    encoding: Encoding,
    next: u32,
    pushes: VecDeque<Said>,
}

/// Why there is no reply: the connection's end is not an error of the test.
#[derive(Debug)]
pub enum Failure {
    /// The gateway replied with an error.
    Refused(Error),
    /// The gateway closed: code and reason.
    Closed(u16, String),
    /// The connection broke.
    Broken(anyhow::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "refused with {}: {}", error.name(), error.message),
            Self::Closed(code, reason) => write!(f, "closed with {code} {reason}"),
            Self::Broken(error) => write!(f, "broken: {error:#}"),
        }
    }
}

impl std::error::Error for Failure {}

impl User {
    /// Connects to the gateway's public address.
    pub async fn connect(address: &str, encoding: Encoding, connect: Connect) -> Result<Self, Failure> {
        let socket =
            Socket::open(address, PATH, encoding.subprotocol(), "").await.map_err(Failure::Broken)?;
        let connected = Connected::default();
        let mut user = Self { socket, connected, encoding, next: 0, pushes: VecDeque::new() };
        match user.ask(Ask::Connect(connect)).await? {
            Said::Connected(connected) => user.connected = connected,
            other => return Err(Failure::Broken(anyhow::anyhow!("{other:?} replies to a connect"))),
        }
        Ok(user)
    }

    /// Connects with an access token.
    pub async fn with_token(address: &str, token: &str) -> Result<Self, Failure> {
        let connect = Connect { token: token.into(), ..Connect::default() };
        Self::connect(address, Encoding::Json, connect).await
    }

    /// Sends a command and waits for its reply.
    pub async fn ask(&mut self, ask: Ask) -> Result<Said, Failure> {
        self.next += 1;
        let id = self.next;
        self.tell(id, ask).await.map_err(Failure::Broken)?;
        loop {
            for (of, said) in self.read().await? {
                match said {
                    Said::Error(error) if of == id => return Err(Failure::Refused(error)),
                    said if of == id => return Ok(said),
                    said => self.pushes.push_back(said),
                }
            }
        }
    }

    /// Sends a command; 0: no reply is wanted.
    pub async fn tell(&mut self, id: u32, ask: Ask) -> Result<()> {
        let frame = self.encoding.encode(vec![Command { id, ask: Some(ask) }]);
        self.socket.send(self.encoding == Encoding::Json, &frame).await
    }

    /// Calls a method of the application.
    pub async fn call(&mut self, method: &str, data: &Value) -> Result<Value, Failure> {
        let call = Call { method: method.into(), data: Payload::of(data), idempotent: true };
        match self.ask(Ask::Call(call)).await? {
            Said::Result(result) => Ok(result.data.map_or(Value::Null, |data| data.value())),
            other => Err(Failure::Broken(anyhow::anyhow!("{other:?} replies to a call"))),
        }
    }

    /// Publishes with a key.
    pub async fn publish(&mut self, channel: &str, data: &Value, key: &str) -> Result<Published, Failure> {
        let data = Payload::of(data);
        let publish = Publish { channel: channel.into(), data, key: key.into(), ..Publish::default() };
        match self.ask(Ask::Publish(publish)).await? {
            Said::Published(published) => Ok(published),
            other => Err(Failure::Broken(anyhow::anyhow!("{other:?} replies to a publish"))),
        }
    }

    /// The next push, heartbeats left out.
    pub async fn push(&mut self) -> Result<Said, Failure> {
        loop {
            if let Some(said) = self.pushes.pop_front() {
                return Ok(said);
            }
            let read = self.read().await?;
            self.pushes.extend(read.into_iter().map(|(_, said)| said));
        }
    }

    /// Reads until the gateway closes; code and reason.
    pub async fn closed(&mut self) -> Result<(u16, String)> {
        loop {
            match self.read().await {
                Ok(_) => {}
                Err(Failure::Closed(code, reason)) => return Ok((code, reason)),
                Err(other) => bail!("{other}"),
            }
        }
    }

    /// What the next frame says, with the ids of the commands; heartbeats are answered.
    async fn read(&mut self) -> Result<Vec<(u32, Said)>, Failure> {
        let messages = match self.socket.frame().await.map_err(Failure::Broken)? {
            Frame::Message(bytes) => self.encoding.decode(bytes).map_err(Failure::Broken)?,
            Frame::Close(code, reason) => {
                return Err(Failure::Closed(code, String::from_utf8_lossy(reason).into_owned()));
            }
            Frame::Ping(bytes) => {
                let bytes = bytes.to_vec();
                self.socket.send_frame(0x8a, &bytes).await.map_err(Failure::Broken)?;
                return Ok(Vec::new());
            }
            Frame::Pong => return Ok(Vec::new()),
        };
        let mut said = Vec::new();
        for message in messages {
            match message.said {
                Some(Said::Heartbeat(_)) => {
                    self.tell(0, Ask::Ping(Empty {})).await.map_err(Failure::Broken)?;
                }
                Some(other) => said.push((message.id, other)),
                None => {}
            }
        }
        Ok(said)
    }
}

/// The retry time of a close reason.
pub fn retry_after(reason: &str) -> Result<u64> {
    let reason: Value = serde_json::from_str(reason).with_context(|| format!("{reason:?} is no JSON"))?;
    reason["retry_after_ms"].as_u64().with_context(|| format!("no retry_after_ms in {reason}"))
}
