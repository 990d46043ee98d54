//! Server-sent events, read as they arrive (the HTML standard's event stream format).

use std::time::Duration;

use anyhow::{Context, Result};

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    /// When it was complete, since the request was sent.
    pub(super) at: Duration,
    /// Its type; `message` unless the stream says otherwise.
    pub(super) kind: String,
    /// Its data.
    pub(super) data: String,
}

/// Takes bytes as they come and gives events.
#[derive(Default)]
pub(super) struct Parser {
    pending: Vec<u8>,
    kind: String,
    data: Vec<String>,
}

impl Parser {
    /// The events that these bytes complete.
    pub(super) fn push(&mut self, bytes: &[u8], at: Duration) -> Vec<Event> {
        self.pending.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            events.extend(self.line(line.trim_end_matches(['\n', '\r']), at));
        }
        events
    }

    fn line(&mut self, line: &str, at: Duration) -> Option<Event> {
        if line.is_empty() {
            let kind = std::mem::take(&mut self.kind);
            let data = std::mem::take(&mut self.data);
            let kind = if kind.is_empty() { "message".to_owned() } else { kind };
            // A block without data, such as a heartbeat's, is no event.
            return (!data.is_empty()).then(|| Event { at, kind, data: data.join("\n") });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.kind = value.to_owned(),
            "data" => self.data.push(value.to_owned()),
            _ => {}
        }
        None
    }
}

/// A response read event by event.
pub(super) struct Stream {
    response: reqwest::Response,
    parser: Parser,
    ready: std::collections::VecDeque<Event>,
    started: std::time::Instant,
}

impl Stream {
    /// `started`: when the request was sent.
    pub(super) fn new(response: reqwest::Response, started: std::time::Instant) -> Self {
        Self { response, parser: Parser::default(), ready: Default::default(), started }
    }

    /// The next event; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Event>> {
        while self.ready.is_empty() {
            let Some(bytes) = self.response.chunk().await.context("the stream broke off")? else {
                return Ok(None);
            };
            self.ready.extend(self.parser.push(&bytes, self.started.elapsed()));
        }
        Ok(self.ready.pop_front())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_put_together_from_any_pieces() {
        let mut parser = Parser::default();
        let text = ": keep-alive\n\ndata: {\"t\":\"ä\"}\r\n\r\nid: 7\nevent: end\ndata: a\ndata:b\n\n";
        let mut events = Vec::new();
        for byte in text.as_bytes() {
            events.extend(parser.push(&[*byte], Duration::ZERO));
        }
        let event =
            |kind: &str, data: &str| Event { at: Duration::ZERO, kind: kind.into(), data: data.into() };
        assert_eq!(events, [event("message", "{\"t\":\"ä\"}"), event("end", "a\nb")]);
    }
}
