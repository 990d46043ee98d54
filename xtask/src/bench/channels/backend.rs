//! The applications behind the contestants that are not programs of their own: one on our gateway's link, one behind
//! Pushpin. A load tells an application what to publish over a control connection, the same for all contestants:
//!
//! - at first the application says `{"number": N, "asks": N}`: its newest message, and the decisions that it was asked for;
//! - `P COUNT MICROSECONDS` publishes so many messages that were asked for at that time; `A` says the above again.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::{link, marks, session::CHANNEL};

/// What an application says when it listens, and to whom controls it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::bench) struct Ports {
    /// Of clients; of our own gateway's application: none.
    pub(in crate::bench) port: u16,
    /// Of the control.
    pub(in crate::bench) control: u16,
}

/// What an application has done.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Done {
    /// Its newest message.
    pub number: u64,
    /// Decisions that it was asked for.
    pub asks: u64,
}

/// Serves the link of the gateway whose internal listener is at `internal`, until killed.
pub(in crate::bench) async fn application(internal: &str, secret: &str) -> Result<()> {
    let hello = link::hello("bench", vec![link::namespace("bench")]);
    let app = link::App::attach(internal, "app", secret, hello, link::yes()).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    crate::bench::helper::say(&Ports { port: 0, control: listener.local_addr()?.port() })?;
    controlled(&app, &listener).await
}

/// Lets an attached application be controlled, by one connection after the other.
pub async fn controlled(app: &link::App, listener: &TcpListener) -> Result<()> {
    let mut number = 0;
    loop {
        let mut control = Control::accept(listener).await?;
        control.say(&Done { number, asks: app.asks() }).await?;
        while let Some(order) = control.order().await? {
            for _ in 0..order.count {
                number += 1;
                app.emit(number, CHANNEL, marks::message(number, order.at), String::new()).await?;
            }
            ensure!(app.refused() == 0, "the gateway refused {} emits", app.refused());
            if order.count == 0 {
                control.say(&Done { number, asks: app.asks() }).await?;
            }
        }
    }
}

/// Serves Pushpin's backend, which subscribes every WebSocket by GRIP, and publishes to `publish` over ZeroMQ.
pub(in crate::bench) async fn grip(publish: &str) -> Result<()> {
    let http = TcpListener::bind("127.0.0.1:0").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let ports = Ports { port: http.local_addr()?.port(), control: listener.local_addr()?.port() };
    crate::bench::helper::say(&ports)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = http.accept().await {
            tokio::spawn(websocket_events(stream));
        }
    });
    let (mut number, mut zmq) = (0, None);
    loop {
        let mut control = Control::accept(&listener).await?;
        control.say(&Done { number, asks: 0 }).await?;
        while let Some(order) = control.order().await? {
            if zmq.is_none() {
                zmq = Some(zmq_push(publish).await?);
            }
            let mut frames = Vec::new();
            for _ in 0..order.count {
                number += 1;
                let content = marks::message(number, order.at);
                let content = serde_json::json!({"content": content});
                let item = serde_json::json!({"channel": "all",
                    "formats": {"ws-message": content, "http-stream": content}});
                let item = format!("J{item}");
                // A long message frame, the last of its message.
                frames.push(2);
                frames.extend((item.len() as u64).to_be_bytes());
                frames.extend(item.as_bytes());
            }
            zmq.as_mut().context("connected above")?.write_all(&frames).await?;
            if order.count == 0 {
                control.say(&Done { number, asks: 0 }).await?;
            }
        }
    }
}

/// A PUSH socket of ZMTP 3.0 without security (rfc.zeromq.org/spec/23), connected.
async fn zmq_push(address: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await.context("connect to Pushpin's PULL socket")?;
    stream.set_nodelay(true)?;
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    stream.write_all(&greeting).await?;
    stream.read_exact(&mut greeting).await?;
    stream.write_all(b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PUSH").await?;
    let mut header = [0; 2];
    stream.read_exact(&mut header).await?;
    ensure!(header[0] == 4, "no READY from Pushpin: {header:?}");
    let mut ready = vec![0; usize::from(header[1])];
    stream.read_exact(&mut ready).await?;
    Ok(stream)
}

/// Answers WebSocket events over HTTP: an opening is accepted and subscribed, whatever else is noted. A GET is held.
async fn websocket_events(stream: TcpStream) -> Result<()> {
    const SUBSCRIBE: &str = "c:{\"type\": \"subscribe\", \"channel\": \"all\"}";
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut line, mut get) = (0, String::new(), false);
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            get |= line.starts_with("GET ");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        if get {
            let response = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ngrip-hold: stream\r\ngrip-channel: all\r\n\
                            content-length: 5\r\n\r\nready";
            stream.get_mut().write_all(response.as_bytes()).await?;
            continue;
        }
        let (events, grip) = if body.starts_with(b"OPEN") {
            let subscribe = format!("TEXT {:x}\r\n{SUBSCRIBE}\r\n", SUBSCRIBE.len());
            (format!("OPEN\r\n{subscribe}TEXT 7\r\nm:ready\r\n"), "sec-websocket-extensions: grip\r\n")
        } else {
            (String::new(), "")
        };
        let response = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/websocket-events\r\n{grip}content-length: {}\r\n\r\n{events}",
            events.len()
        );
        stream.get_mut().write_all(response.as_bytes()).await?;
    }
}

/// An order to publish; a count of 0 asks for what was done.
struct Order {
    count: u64,
    at: u64,
}

struct Control(BufReader<TcpStream>);

impl Control {
    async fn accept(listener: &TcpListener) -> Result<Self> {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    async fn order(&mut self) -> Result<Option<Order>> {
        let mut line = String::new();
        if self.0.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        Ok(Some(match words.next() {
            Some("P") => {
                let mut number = || words.next().and_then(|word| word.parse().ok()).context("P COUNT TIME");
                Order { count: number()?, at: number()? }
            }
            _ => Order { count: 0, at: 0 },
        }))
    }

    async fn say(&mut self, done: &Done) -> Result<()> {
        let line = serde_json::to_string(done)? + "\n";
        Ok(self.0.get_mut().write_all(line.as_bytes()).await?)
    }
}
