//! Two editors of one note over WebSocket, through the gateway's tunnel: Alice writes, Bob sees it, and both are
//! sent the passages that Python finds related.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::Target;
use super::live::{create_note, delete_note};
use super::protocol::{self, Message};
use super::report::Printer;
use crate::term::shorten;

const TITLE: &str = "Alice and Bob edit a note together, and Python finds what is related";
/// The shared text of a note's document.
const FIELD: &str = "text";
const WRITTEN: &str = "The gateway passes a signed identity on to each service. ";
const LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn edit_together(target: &Target, printer: &mut Printer) {
    printer.group("WebSocket");
    printer.step(TITLE);
    let began = Instant::now();
    match edit(target, printer).await {
        Ok(held) => printer.end(TITLE, "101", began.elapsed(), vec![], &held, vec![]),
        Err(error) => printer.end(TITLE, "failed", began.elapsed(), vec![], &[], vec![format!("{error:#}")]),
    }
}

async fn edit(target: &Target, printer: &Printer) -> Result<Vec<String>> {
    let id = create_note(target, printer, "Minutes", "", &["bob"]).await?;
    let document = format!("note:{id}");
    let mut alice = Editor::open(target, printer, &target.tokens.alice, &document).await?;
    let mut bob = Editor::open(target, printer, &target.tokens.bob, &document).await?;
    printer.received("101 Switching Protocols, twice: both have opened the document");

    let sent = Instant::now();
    // Any number will do as long as no two editors share it.
    let client = u64::from(std::process::id()) << 8 | 1;
    alice.send(protocol::insert(&document, client, FIELD, WRITTEN)).await?;
    printer.sent(&format!("Alice inserts {WRITTEN:?}"));
    let has_text = |message: &Message| match message {
        Message::Update(update) => {
            update.windows(WRITTEN.len()).any(|part| part == WRITTEN.as_bytes()).then_some(())
        }
        _ => None,
    };
    bob.wait("Alice's change", has_text).await?;
    let seen = sent.elapsed();
    printer.event(seen, "Bob has the change");
    let acknowledged = |message: &Message| match message {
        Message::Acknowledged(done) => Some(*done),
        _ => None,
    };
    ensure!(alice.wait("the acknowledgement", acknowledged).await?, "the server did not take Alice's change");
    printer.event(sent.elapsed(), "Alice has the server's word that it is kept");

    let related = bob.wait("the related passages", related_passages).await?;
    let found = sent.elapsed();
    printer.event(found, &format!("Bob is sent {} related passages, found by Python:", related.len()));
    for passage in related.iter().take(3) {
        let title = passage["title"].as_str().unwrap_or("?");
        printer.detail(&format!(
            "          {title}: {}",
            shorten(passage["passage"].as_str().unwrap_or(""), 90)
        ));
    }
    alice.wait("the related passages", related_passages).await?;
    alice.close().await;
    bob.close().await;
    delete_note(target, &id).await?;
    Ok(vec![
        format!("Bob saw the edit after {:.0} ms", seen.as_secs_f64() * 1e3),
        format!("both have {} related passages after {:.0} ms", related.len(), found.as_secs_f64() * 1e3),
    ])
}

fn related_passages(message: &Message) -> Option<Vec<Value>> {
    let Message::Stateless(payload) = message else { return None };
    let payload: Value = serde_json::from_str(payload).ok()?;
    let passages = payload["passages"].as_array().filter(|_| payload["type"] == "related")?;
    (!passages.is_empty()).then(|| passages.clone())
}

/// One editor's connection to one document.
struct Editor {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    document: String,
}

impl Editor {
    /// Connects, is let in, and synchronises.
    async fn open(target: &Target, printer: &Printer, token: &str, document: &str) -> Result<Self> {
        let base = target.base.replacen("http", "ws", 1);
        let url = format!("{base}/collab?access_token={token}");
        printer.sent(&format!("GET {url} (upgrade to WebSocket)").replace(&base, ""));
        let connect = tokio_tungstenite::connect_async(&url);
        let connected = tokio::time::timeout(LIMIT, connect).await.context("the upgrade took too long")?;
        let (socket, _) = connected.map_err(describe).context("the upgrade failed")?;
        let mut editor = Self { socket, document: document.to_owned() };
        editor.send(protocol::authenticate(document)).await?;
        let allowed = |message: &Message| match message {
            Message::Authenticated => Some(None),
            Message::PermissionDenied(why) => Some(Some(why.clone())),
            _ => None,
        };
        if let Some(why) = editor.wait("the permission", allowed).await? {
            bail!("the document may not be opened: {why}");
        }
        editor.send(protocol::sync_step_1(document)).await?;
        let synced = |message: &Message| matches!(message, Message::Update(_)).then_some(());
        editor.wait("the document", synced).await?;
        Ok(editor)
    }

    async fn send(&mut self, message: Vec<u8>) -> Result<()> {
        self.socket.send(tungstenite::Message::binary(message)).await.context("the socket broke")
    }

    /// Reads until `wanted` finds what it looks for; answers the server's questions meanwhile.
    async fn wait<T>(&mut self, what: &str, wanted: impl Fn(&Message) -> Option<T>) -> Result<T> {
        let read = async {
            while let Some(frame) = self.socket.next().await {
                let tungstenite::Message::Binary(bytes) = frame.context("the socket broke")? else {
                    continue;
                };
                let message = protocol::read(&bytes)?;
                if message == Message::SyncStep1 {
                    self.send(protocol::sync_step_2(&self.document.clone())).await?;
                }
                if let Some(found) = wanted(&message) {
                    return Ok(found);
                }
            }
            bail!("the server closed the socket before {what} came")
        };
        tokio::time::timeout(LIMIT, read).await.with_context(|| format!("{what} did not come within 10 s"))?
    }

    async fn close(mut self) {
        let _ = self.socket.close(None).await;
    }
}

/// A refused upgrade with its status and problem.
fn describe(error: tungstenite::Error) -> anyhow::Error {
    match error {
        tungstenite::Error::Http(response) => {
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            anyhow::anyhow!("the gateway answers {}: {body}", response.status())
        }
        other => other.into(),
    }
}
