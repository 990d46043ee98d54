//! Editors of collaborative documents: the real Hocuspocus provider, in a Node process driven by JSON lines.

use std::{
    collections::HashMap,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
};

use crate::wait::within;

/// The Node process with its editors.
#[derive(Debug)]
pub struct Collab {
    input: ChildStdin,
    /// How many texts each editor was told to insert.
    inserted: HashMap<String, u64>,
    events: Arc<Mutex<Vec<Value>>>,
    count: watch::Receiver<usize>,
    _child: Child,
}

impl Collab {
    /// Starts the process with the runtime and the provider of `services-node` under `root`.
    pub fn start(root: &Path) -> Result<Self> {
        let node = root.join("services-node/node_modules/.bin/node");
        let mut child = Command::new(&node)
            .arg(root.join("tests/collab-client.mjs"))
            .arg(root.join("services-node/realtime/package.json"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", node.display()))?;
        let input = child.stdin.take().context("the editors' input")?;
        let output = child.stdout.take().context("the editors' output")?;
        let events = Arc::new(Mutex::new(Vec::new()));
        let (counted, count) = watch::channel(0);
        let sink = Arc::clone(&events);
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                counted.send_modify(|count| *count += 1);
            }
        });
        Ok(Self { input, inserted: HashMap::new(), events, count, _child: child })
    }

    /// Opens `document` at `url` as a new editor and waits until it has its contents.
    pub async fn open(&mut self, editor: &str, url: &str, document: &str) -> Result<()> {
        let from = self.mark();
        self.inserted.remove(editor);
        self.tell(json!({"command": "open", "editor": editor, "url": url, "document": document})).await?;
        self.event(editor, "synced", from, Duration::from_secs(10)).await?;
        Ok(())
    }

    /// Opens a document that the server must refuse; the event that says so.
    pub async fn open_refused(&mut self, editor: &str, url: &str, document: &str) -> Result<Value> {
        let from = self.mark();
        self.tell(json!({"command": "open", "editor": editor, "url": url, "document": document})).await?;
        self.event(editor, "refused", from, Duration::from_secs(10)).await
    }

    /// Appends `text` to `field` without waiting; how many texts this editor has appended by then.
    pub async fn insert(&mut self, editor: &str, field: &str, text: &str) -> Result<u64> {
        let inserted = self.inserted.entry(editor.to_owned()).or_default();
        *inserted += 1;
        let inserted = *inserted;
        self.tell(json!({"command": "insert", "editor": editor, "field": field, "text": text})).await?;
        Ok(inserted)
    }

    /// Appends `text` and waits until the server has acknowledged it.
    pub async fn write(&mut self, editor: &str, field: &str, text: &str, bound: Duration) -> Result<()> {
        let from = self.mark();
        let inserted = self.insert(editor, field, text).await?;
        self.event_where(editor, "acknowledged", from, bound, |event| covers(event, inserted)).await?;
        Ok(())
    }

    /// The text of `field` as the editor sees it.
    pub async fn text(&mut self, editor: &str, field: &str) -> Result<String> {
        let from = self.mark();
        self.tell(json!({"command": "text", "editor": editor, "field": field})).await?;
        let event = self.event(editor, "text", from, Duration::from_secs(5)).await?;
        Ok(event["text"].as_str().unwrap_or_default().to_owned())
    }

    /// Ends an editor.
    pub async fn close(&mut self, editor: &str) -> Result<()> {
        self.tell(json!({"command": "close", "editor": editor})).await
    }

    /// How many events there were: a place to wait from.
    pub fn mark(&self) -> usize {
        *self.count.borrow()
    }

    /// The first event called `name` of the editor, from `from` on.
    pub async fn event(&mut self, editor: &str, name: &str, from: usize, bound: Duration) -> Result<Value> {
        self.event_where(editor, name, from, bound, |_| true).await
    }

    /// Appends `text` on a connection that may break: whether it was acknowledged before that.
    pub async fn write_or_break(&mut self, editor: &str, field: &str, text: &str) -> Result<bool> {
        let from = self.mark();
        let inserted = self.insert(editor, field, text).await?;
        let first = self.find(editor, from, Duration::from_secs(5), |event| {
            event["event"] == "closed" || covers(event, inserted)
        });
        Ok(first.await?["event"] == "acknowledged")
    }

    /// The first event called `name` that fits, from `from` on.
    pub async fn event_where(
        &mut self,
        editor: &str,
        name: &str,
        from: usize,
        bound: Duration,
        fits: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let found = self.find(editor, from, bound, |event| event["event"] == name && fits(event)).await;
        found.with_context(|| format!("waiting for {name:?}"))
    }

    async fn find(
        &mut self,
        editor: &str,
        from: usize,
        bound: Duration,
        fits: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let (events, count) = (Arc::clone(&self.events), &mut self.count);
        let what = format!("an event of editor {editor:?}");
        let found = within(&what, bound, async {
            loop {
                count.borrow_and_update();
                let found = {
                    let events = events.lock().unwrap_or_else(PoisonError::into_inner);
                    events[from..].iter().find(|event| event["editor"] == editor && fits(event)).cloned()
                };
                match found {
                    Some(event) => return Ok(event),
                    None => count.changed().await.context("the editors' process ended")?,
                }
            }
        });
        let result = found.await;
        result.with_context(|| format!("events were {:?}", self.since(from)))
    }

    /// All events from `from` on.
    pub fn since(&self, from: usize) -> Vec<Value> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)[from..].to_vec()
    }

    async fn tell(&mut self, command: Value) -> Result<()> {
        self.input.write_all(format!("{command}\n").as_bytes()).await.context("tell the editors' process")
    }
}

/// Whether an event acknowledges everything up to the insertion of this number. An editor's first acknowledgement is
/// that of its opening; it may come while the first insertion is on its way, and says nothing of that one.
fn covers(event: &Value, inserted: u64) -> bool {
    event["event"] == "acknowledged" && event["inserted"].as_u64().is_some_and(|covered| covered >= inserted)
}
