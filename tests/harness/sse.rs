//! Reads server-sent events from a response as they come.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::wait::within;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// The `event:` field; "message" where there is none.
    pub name: String,
    /// The `data:` lines, joined.
    pub data: String,
    /// The `id:` field.
    pub id: Option<String>,
}

impl Event {
    /// The data as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.data).with_context(|| format!("event data {:?}", self.data))
    }
}

/// A response that is an event stream.
#[derive(Debug)]
pub struct Events {
    response: reqwest::Response,
    parser: Parser,
}

impl Events {
    /// Takes a response, which must be a 200 event stream.
    pub async fn from(response: reqwest::Response) -> Result<Self> {
        let status = response.status();
        let kind = response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
        if status != 200 || !kind.starts_with("text/event-stream") {
            let kind = kind.to_owned();
            bail!("no event stream but {status} {kind}: {}", response.text().await.unwrap_or_default());
        }
        Ok(Self { response, parser: Parser::default() })
    }

    /// The next event within 10 s; `None` at the stream's end.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        within("an event", Duration::from_secs(10), self.read()).await
    }

    /// The next event, which there must be.
    pub async fn expect(&mut self) -> Result<Event> {
        self.next().await?.context("the stream ended")
    }

    /// All events until the stream's end.
    pub async fn rest(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            events.push(event);
        }
        Ok(events)
    }

    async fn read(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.parser.next() {
                return Ok(Some(event));
            }
            match self.response.chunk().await.context("the stream broke without an error event")? {
                Some(chunk) => self.parser.feed(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// Cuts bytes into events, after the HTML standard's "event stream interpretation" (with \n line ends).
#[derive(Debug, Default)]
struct Parser {
    bytes: Vec<u8>,
}

impl Parser {
    fn feed(&mut self, chunk: &[u8]) {
        self.bytes.extend(chunk);
    }

    /// The next whole event; comments alone are none.
    fn next(&mut self) -> Option<Event> {
        loop {
            let end = self.bytes.windows(2).position(|w| w == b"\n\n")? + 2;
            let block: Vec<u8> = self.bytes.drain(..end).collect();
            if let Some(event) = event(&String::from_utf8_lossy(&block)) {
                return Some(event);
            }
        }
    }
}

fn event(block: &str) -> Option<Event> {
    let mut event = Event { name: "message".into(), ..Event::default() };
    let mut data = Vec::new();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event.name = value.into(),
            "data" => data.push(value),
            "id" => event.id = Some(value.into()),
            _ => {}
        }
    }
    event.data = data.join("\n");
    (!data.is_empty()).then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_where_they_end() {
        let mut parser = Parser::default();
        parser.feed(b": keep-alive\n\nid: 7\nevent: note\ndata: {\"a\"");
        assert_eq!(parser.next(), None);
        parser.feed(b":1}\n\ndata: x\ndata: y\n\n");
        let first = Event { name: "note".into(), data: "{\"a\":1}".into(), id: Some("7".into()) };
        assert_eq!(parser.next(), Some(first));
        assert_eq!(parser.next().map(|event| event.data), Some("x\ny".into()));
        assert_eq!(parser.next(), None);
    }
}
