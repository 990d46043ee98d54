//! Frames to messages and messages to frames, in JSON and protobuf, from the same types.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::Wire;
use crate::log::{Entries, Entry};
use crate::proto::{self, ClientFrame, Payload, command, payload, server_message};

/// Reads what a client sent. The error names what is wrong, for the client.
pub(crate) fn read(wire: Wire, frame: &[u8]) -> Result<ClientFrame, String> {
    if wire.is_json() {
        return serde_json::from_slice(frame).map_err(|error| format!("not a frame in JSON: {error}"));
    }
    let frame = ClientFrame::decode(frame).map_err(|error| format!("not a frame in protobuf: {error}"))?;
    for command in &frame.commands {
        check(data(command)).map_err(|error| format!("command {}: {error}", command.id))?;
    }
    Ok(frame)
}

/// Whether the text of a payload is JSON: it goes into others' messages as it is.
pub(crate) fn check(payload: Option<&Payload>) -> Result<(), String> {
    let Some(payload::Kind::Json(text)) = payload.and_then(|payload| payload.kind.as_ref()) else {
        return Ok(());
    };
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("data.json is not JSON: {error}")),
    }
}

fn data(command: &proto::Command) -> Option<&Payload> {
    match command.kind.as_ref()? {
        command::Kind::Connect(connect) => connect.data.as_ref(),
        command::Kind::Subscribe(subscribe) => subscribe.data.as_ref(),
        command::Kind::Publish(publish) => publish.data.as_ref(),
        command::Kind::Call(call) => call.data.as_ref(),
        _ => None,
    }
}

/// A message to write. Publications are spliced in as they were encoded when they were accepted.
pub(crate) enum Body<'a> {
    /// Any message without publications.
    Message(&'a proto::ServerMessage),
    /// The push that most bytes are.
    Publications { channel: &'a str, entries: &'a [Entry] },
    /// A reply to subscribe.
    Subscribed { id: u32, head: &'a proto::Subscribed, entries: &'a [Entry] },
    /// A reply to connect, with its subscriptions.
    Connected { id: u32, head: &'a proto::Connected, subscriptions: &'a [(proto::Subscribed, Entries)] },
    /// A reply to history.
    History { id: u32, head: &'a proto::HistoryPage, entries: &'a [Entry] },
}

/// One message in one frame, ready for the socket.
pub(crate) fn write(wire: Wire, body: &Body) -> Bytes {
    let mut out = Vec::with_capacity(256);
    if wire.is_json() {
        out.extend_from_slice(b"{\"messages\":[");
        json(body, &mut out);
        out.extend_from_slice(b"]}");
    } else {
        let mut message = Vec::with_capacity(256);
        protobuf(body, &mut message);
        field(1, &message, &mut out);
    }
    wire.frame(event(body), &out)
}

/// The name of the event: what a page acts on by itself has its own.
fn event(body: &Body) -> &'static str {
    match body {
        Body::Connected { .. } => "connected",
        Body::Subscribed { .. } => "subscribed",
        Body::Message(proto::ServerMessage { kind: Some(server_message::Kind::Error(_)), .. }) => "error",
        Body::Message(proto::ServerMessage { kind: Some(server_message::Kind::Closing(_)), .. }) => "closing",
        _ => "message",
    }
}

fn json(body: &Body, out: &mut Vec<u8>) {
    let open = |id: u32, name: &str, out: &mut Vec<u8>| {
        out.push(b'{');
        if id != 0 {
            out.extend_from_slice(format!("\"id\":{id},").as_bytes());
        }
        out.extend_from_slice(format!("\"{name}\":").as_bytes());
    };
    match body {
        Body::Message(message) => return to_json(message, out),
        Body::Publications { channel, entries } => {
            open(0, "publications", out);
            let head = proto::Publications { channel: (*channel).into(), publications: vec![] };
            spliced(&head, "publications", out, entries.iter(), Entry::json);
        }
        Body::Subscribed { id, head, entries } => {
            open(*id, "subscribed", out);
            spliced(head, "publications", out, entries.iter(), Entry::json);
        }
        Body::History { id, head, entries } => {
            open(*id, "history", out);
            spliced(head, "publications", out, entries.iter(), Entry::json);
        }
        Body::Connected { id, head, subscriptions } => {
            open(*id, "connected", out);
            spliced(head, "subscriptions", out, subscriptions.iter(), |(head, entries), out| {
                spliced(head, "publications", out, entries.iter(), Entry::json);
            });
        }
    }
    out.push(b'}');
}

/// An object of `head` with one list more, whose items write themselves.
fn spliced<T>(
    head: &impl Serialize,
    name: &str,
    out: &mut Vec<u8>,
    items: impl ExactSizeIterator<Item = T>,
    write: impl Fn(T, &mut Vec<u8>),
) {
    to_json(head, out);
    if items.len() == 0 {
        return;
    }
    out.pop();
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.extend_from_slice(format!("\"{name}\":[").as_bytes());
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.extend_from_slice(b"]}");
}

/// Writes JSON. Payloads were checked when they came in, so that it cannot fail; if it does, an empty object is true enough.
pub(crate) fn to_json(value: &impl Serialize, out: &mut Vec<u8>) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"{}");
    }
}

fn protobuf(body: &Body, out: &mut Vec<u8>) {
    let entries_in = |number: u32, head: Vec<u8>, entries: &[Entry]| {
        let mut inner = head;
        entries.iter().for_each(|entry| field(number, entry.protobuf(), &mut inner));
        inner
    };
    let (id, number, inner) = match body {
        Body::Message(message) => return out.extend_from_slice(&message.encode_to_vec()),
        Body::Publications { channel, entries } => {
            let head = proto::Publications { channel: (*channel).into(), publications: vec![] };
            (0, 12, entries_in(2, head.encode_to_vec(), entries))
        }
        Body::Subscribed { id, head, entries } => (*id, 4, entries_in(5, head.encode_to_vec(), entries)),
        Body::History { id, head, entries } => (*id, 9, entries_in(1, head.encode_to_vec(), entries)),
        Body::Connected { id, head, subscriptions } => {
            let mut inner = head.encode_to_vec();
            for (head, entries) in *subscriptions {
                field(4, &entries_in(5, head.encode_to_vec(), entries), &mut inner);
            }
            (*id, 3, inner)
        }
    };
    if id != 0 {
        encode_key(1, WireType::Varint, out);
        encode_varint(id.into(), out);
    }
    field(number, &inner, out);
}

fn field(number: u32, content: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests;
