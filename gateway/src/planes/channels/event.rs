//! Server-sent events: the hub's pieces with their names, ids and times to wait. The data is always a ServerFrame.

use bytes::{BufMut, Bytes, BytesMut};
use hub::proto::{ServerFrame, server_message};

/// What the hub puts before the data.
const HEAD: &[u8] = b"event: message\ndata: ";
/// How a frame begins that holds a reply, or the end.
const REPLY: &[u8] = b"{\"messages\":[{\"id\":";
const CLOSING: &[u8] = b"{\"messages\":[{\"closing\":";

/// A reply to a command of the plane's own.
pub(super) struct Reply {
    pub(super) id: u32,
    pub(super) kind: server_message::Kind,
}

/// The reply in a piece. Pushes, which are most pieces, are not looked into.
pub(super) fn reply(piece: &[u8]) -> Option<Reply> {
    let data = piece.strip_prefix(HEAD)?;
    if !data.starts_with(REPLY) {
        return None;
    }
    let message = message(data)?;
    Some(Reply { id: message.id, kind: message.kind? })
}

fn message(data: &[u8]) -> Option<hub::proto::ServerMessage> {
    serde_json::from_slice::<ServerFrame>(data).ok()?.messages.into_iter().next()
}

/// The piece as it is sent: replies are named by what they say, the end says when to come back, and `id` is the place
/// after all of it.
pub(super) fn finish(piece: &[u8], id: &str) -> Bytes {
    let Some(data) = piece.strip_prefix(HEAD) else { return Bytes::copy_from_slice(piece) };
    let special = data.starts_with(REPLY) || data.starts_with(CLOSING);
    let kind = if special { message(data).and_then(|message| message.kind) } else { None };
    let mut out = BytesMut::with_capacity(piece.len() + id.len() + 48);
    if !id.is_empty() {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.put_u8(b'\n');
    }
    if let Some(server_message::Kind::Closing(closing)) = &kind
        && closing.retry_after_ms > 0
    {
        out.extend_from_slice(format!("retry: {}\n", closing.retry_after_ms).as_bytes());
    }
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name(kind.as_ref()).as_bytes());
    out.extend_from_slice(b"\ndata: ");
    out.extend_from_slice(data);
    out.freeze()
}

fn name(kind: Option<&server_message::Kind>) -> &'static str {
    match kind {
        Some(server_message::Kind::Connected(_)) => "connected",
        Some(server_message::Kind::Subscribed(_)) => "subscribed",
        Some(server_message::Kind::Error(_)) => "error",
        Some(server_message::Kind::Closing(_)) => "closing",
        _ => "message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(data: &str, id: &str) -> String {
        let piece = format!("event: message\ndata: {data}\n\n");
        String::from_utf8(finish(piece.as_bytes(), id).to_vec()).unwrap()
    }

    #[test]
    fn events_are_named_by_what_they_say() {
        for (data, expected) in [
            (
                r#"{"messages":[{"id":1,"connected":{"session":"s"}}]}"#,
                "id: p\nevent: connected\ndata: {\"messages\":[{\"id\":1,\"connected\":{\"session\":\"s\"}}]}\n\n",
            ),
            (
                r#"{"messages":[{"id":2,"error":{"message":"no"}}]}"#,
                "id: p\nevent: error\ndata: {\"messages\":[{\"id\":2,\"error\":{\"message\":\"no\"}}]}\n\n",
            ),
            (
                r#"{"messages":[{"closing":{"retryAfterMs":1200}}]}"#,
                "id: p\nretry: 1200\nevent: closing\ndata: {\"messages\":[{\"closing\":{\"retryAfterMs\":1200}}]}\n\n",
            ),
            (
                r#"{"messages":[{"publications":{"channel":"a:b"}}]}"#,
                "id: p\nevent: message\ndata: {\"messages\":[{\"publications\":{\"channel\":\"a:b\"}}]}\n\n",
            ),
        ] {
            assert_eq!(finished(data, "p"), expected);
        }
        assert!(finished("{}", "").starts_with("event: message\n"), "no id where there is no place");
    }

    #[test]
    fn replies_are_found_and_pushes_are_not_looked_into() {
        let piece = |data: &str| format!("event: message\ndata: {data}\n\n").into_bytes();
        let found = reply(&piece(r#"{"messages":[{"id":7,"subscribed":{"channel":"a:b"}}]}"#)).unwrap();
        assert_eq!(found.id, 7);
        assert!(matches!(found.kind, server_message::Kind::Subscribed(it) if it.channel == "a:b"));
        assert!(reply(&piece(r#"{"messages":[{"publications":{"channel":"a:b"}}]}"#)).is_none());
    }
}
