//! Server-sent events: what the hub writes, with ids and times to come back. The data is always a ServerFrame.

use bytes::{BufMut, Bytes, BytesMut};
use hub::proto::{ServerFrame, ServerMessage, server_message};

const CLOSING: &[u8] = b"event: closing\n";
/// How a frame begins that holds a reply.
const REPLY: &[u8] = b"{\"messages\":[{\"id\":";

/// A reply to a command of the plane's own.
pub(super) struct Reply {
    pub(super) id: u32,
    pub(super) kind: server_message::Kind,
}

/// The reply in an event. Pushes, which are most events, are not looked into.
pub(super) fn reply(event: &[u8]) -> Option<Reply> {
    let message = data(event).filter(|data| data.starts_with(REPLY)).and_then(message)?;
    Some(Reply { id: message.id, kind: message.kind? })
}

/// What follows the event's name.
fn data(event: &[u8]) -> Option<&[u8]> {
    let line = memchr::memchr(b'\n', event)? + 1;
    event[line..].strip_prefix(b"data: ")
}

fn message(data: &[u8]) -> Option<ServerMessage> {
    serde_json::from_slice::<ServerFrame>(data).ok()?.messages.into_iter().next()
}

/// The event as it is sent: with `id`, the place after all of it, and where it is the last with the time to come back.
pub(super) fn finish(event: &[u8], id: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(event.len() + id.len() + 32);
    if !id.is_empty() {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.put_u8(b'\n');
    }
    if event.starts_with(CLOSING)
        && let Some(server_message::Kind::Closing(closing)) =
            data(event).and_then(message).and_then(|it| it.kind)
    {
        out.extend_from_slice(format!("retry: {}\n", closing.retry_after_ms).as_bytes());
    }
    out.extend_from_slice(event);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_get_ids_and_the_last_one_a_time() {
        let message = b"event: message\ndata: {\"messages\":[{\"publications\":{\"channel\":\"a:b\"}}]}\n\n";
        assert_eq!(finish(message, "p"), [&b"id: p\n"[..], message].concat());
        assert_eq!(finish(message, ""), &message[..], "no id where there is no place");
        let closing = b"event: closing\ndata: {\"messages\":[{\"closing\":{\"retryAfterMs\":1200}}]}\n\n";
        assert_eq!(finish(closing, "p"), [&b"id: p\nretry: 1200\n"[..], closing].concat());
    }

    #[test]
    fn replies_are_found_and_pushes_are_not_looked_into() {
        let event = |data: &str| format!("event: subscribed\ndata: {data}\n\n").into_bytes();
        let found = reply(&event(r#"{"messages":[{"id":7,"subscribed":{"channel":"a:b"}}]}"#)).unwrap();
        assert_eq!(found.id, 7);
        assert!(matches!(found.kind, server_message::Kind::Subscribed(it) if it.channel == "a:b"));
        assert!(reply(&event(r#"{"messages":[{"publications":{"channel":"a:b"}}]}"#)).is_none());
        assert!(reply(b"").is_none() && reply(b"event: x\n").is_none());
    }
}
