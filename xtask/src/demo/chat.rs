//! A chat over channels: Bob's connection breaks, Alice goes on writing, and Bob resumes with what he missed. The
//! gateway does that alone; docs/channels.md documents the messages.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest, http::HeaderValue};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::Target;
use super::report::Printer;
use crate::term::shorten;

const TITLE: &str = "Bob's connection breaks in a chat, and he resumes with what he missed";
const CHANNEL: &str = "chat:lobby";
const SUBPROTOCOL: &str = "hybrid.channels.v1.json";
const LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn resume(target: &Target, printer: &mut Printer) {
    printer.group("Channels");
    printer.step(TITLE);
    let began = Instant::now();
    match chat(target, printer).await {
        Ok(held) => printer.end(TITLE, "101", began.elapsed(), vec![], &held, vec![]),
        Err(error) => printer.end(TITLE, "failed", began.elapsed(), vec![], &[], vec![format!("{error:#}")]),
    }
}

async fn chat(target: &Target, printer: &Printer) -> Result<Vec<String>> {
    let mut alice = Chatter::open(target, printer, "Alice", &target.tokens.alice).await?;
    let mut bob = Chatter::open(target, printer, "Bob", &target.tokens.bob).await?;
    alice.ask("connect", json!({})).await?;
    let connected = bob.ask("connect", json!({})).await?;
    let ticket = connected["connected"]["ticket"]["ticket"].as_str().context("Bob has no ticket")?.to_owned();
    alice.ask("subscribe", json!({ "channel": CHANNEL })).await?;
    let subscribed = bob.ask("subscribe", json!({ "channel": CHANNEL })).await?;
    let place = subscribed["subscribed"]["position"].clone();
    // What was granted since is in a newer ticket.
    let ticket = bob.newest_ticket(ticket).await?;
    bob.cut();
    printer.event(Duration::ZERO, "Bob's connection breaks, without a word");

    let text = format!("Are you still there, Bob? ({})", std::process::id());
    let key = format!("demo-{}-{:?}", std::process::id(), Instant::now());
    let message =
        json!({ "channel": CHANNEL, "data": { "json": { "type": "message", "text": text } }, "key": key });
    let sent = Instant::now();
    let first = alice.ask("publish", message.clone()).await?["published"].clone();
    let kept = sent.elapsed();
    let again = alice.ask("publish", message).await?["published"].clone();
    ensure!(again["duplicate"] == true, "the same key was published twice: {again}");
    ensure!(again["position"] == first["position"], "a repeat has another place: {first}, {again}");

    let mut bob = Chatter::open(target, printer, "Bob", &target.tokens.bob).await?;
    let back = Instant::now();
    let resume = json!([{ "channel": CHANNEL, "from": place }]);
    let connected =
        bob.ask("connect", json!({ "ticket": ticket, "resume": resume })).await?["connected"].clone();
    let subscription = &connected["subscriptions"][0];
    ensure!(connected["resumed"] == true, "the session was not resumed: {connected}");
    ensure!(subscription["recovered"] == true, "Bob was told to start anew: {subscription}");
    ensure!(
        subscription.to_string().contains(&text),
        "Alice's message is not among what Bob missed: {subscription}"
    );
    printer.event(back.elapsed(), "Bob is back, and has what he missed");
    alice.cut();
    bob.cut();
    Ok(vec![
        format!(
            "Alice's message was moderated, kept and acknowledged after {:.0} ms",
            kept.as_secs_f64() * 1e3
        ),
        format!("Bob had missed nothing {:.0} ms after he was back", back.elapsed().as_secs_f64() * 1e3),
    ])
}

/// One person's connection.
struct Chatter<'a> {
    name: &'static str,
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    printer: &'a Printer,
    id: u32,
    /// The ticket that was pushed last.
    ticket: Option<String>,
}

impl<'a> Chatter<'a> {
    async fn open(target: &Target, printer: &'a Printer, name: &'static str, token: &str) -> Result<Self> {
        let base = target.base.replacen("http", "ws", 1);
        let path = "/channels/v1/websocket";
        printer.sent(&format!("GET {path} (upgrade to WebSocket, {name})"));
        let mut request = format!("{base}{path}").into_client_request()?;
        let headers = request.headers_mut();
        headers.insert("authorization", HeaderValue::try_from(format!("Bearer {token}"))?);
        headers.insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        let connect = tokio_tungstenite::connect_async(request);
        let connected = tokio::time::timeout(LIMIT, connect).await.context("the upgrade took too long")?;
        let (socket, _) = connected.context("the upgrade failed")?;
        Ok(Self { name, socket, printer, id: 0, ticket: None })
    }

    /// Sends a command and gives its reply.
    async fn ask(&mut self, kind: &str, command: Value) -> Result<Value> {
        self.id += 1;
        let frame = json!({ "commands": [{ "id": self.id, (kind): command }] }).to_string();
        self.printer.sent(&format!("{} {}", self.name, shorten(&frame, 140)));
        self.socket.send(tungstenite::Message::text(frame)).await.context("the socket broke")?;
        let id = self.id;
        let reply = self.wait(kind, |message| (message["id"] == id).then(|| message.clone())).await?;
        self.printer.received(&shorten(&reply.to_string(), 140));
        match reply.get("error") {
            Some(error) => bail!("{kind} is refused: {error}"),
            None => Ok(reply),
        }
    }

    /// The ticket that holds all that was granted: pushed after the grant, and so before the answer to a ping.
    async fn newest_ticket(&mut self, first: String) -> Result<String> {
        self.ask("ping", json!({})).await?;
        Ok(self.ticket.take().unwrap_or(first))
    }

    /// Reads until `wanted` finds what it looks for.
    async fn wait<T>(&mut self, what: &str, wanted: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let read = async {
            while let Some(frame) = self.socket.next().await {
                let tungstenite::Message::Text(text) = frame.context("the socket broke")? else { continue };
                let frame: Value = serde_json::from_str(&text).context("a frame is not JSON")?;
                let mut found = None;
                for message in frame["messages"].as_array().into_iter().flatten() {
                    if let Some(ticket) = message["ticket"]["ticket"].as_str() {
                        self.ticket = Some(ticket.to_owned());
                    }
                    found = found.or_else(|| wanted(message));
                }
                if let Some(found) = found {
                    return Ok(found);
                }
            }
            bail!("the gateway closed the socket before the reply to {what} came")
        };
        tokio::time::timeout(LIMIT, read).await.with_context(|| format!("no reply to {what} within 10 s"))?
    }

    /// Breaks the connection without a closing handshake.
    fn cut(self) {
        drop(self.socket);
    }
}
