//! How messages look in an HTTP body: events, lines, an array, or the raw content that they hold.

use bytes::Bytes;
use transcode::{Matched, TranscodeError};

/// One of the ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Server-sent events.
    Events,
    /// Newline-delimited JSON, by the name that the client uses for it.
    Lines(&'static str),
    /// One JSON array.
    Array,
    /// What `google.api.HttpBody` holds, as it is.
    Raw,
}

impl Form {
    /// The media type; raw content has its own.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Events => "text/event-stream",
            Self::Lines(name) => name,
            Self::Array => "application/json",
            Self::Raw => "application/octet-stream",
        }
    }

    /// Appends a message. `begun`: it is not the first. On failure `out` is as it was.
    pub(super) fn message(
        self,
        matched: &Matched,
        message: &Bytes,
        begun: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), TranscodeError> {
        let before = out.len();
        match self {
            Self::Events => {
                out.extend_from_slice(b"id: ");
                match matched.append_event_id(message, out) {
                    true => out.push(b'\n'),
                    false => out.truncate(before),
                }
                out.extend_from_slice(b"data: ");
            }
            Self::Array => out.extend_from_slice(if begun { b",\n" } else { b"[" }),
            Self::Lines(_) | Self::Raw => {}
        }
        let result = matched.append_response(message, out);
        match (&result, self) {
            (Err(_), _) => out.truncate(before),
            (Ok(()), Self::Events) => out.extend_from_slice(b"\n\n"),
            (Ok(()), Self::Lines(_)) => out.push(b'\n'),
            (Ok(()), Self::Array | Self::Raw) => {}
        }
        result
    }

    /// Appends what shows that the stream lives and means nothing else.
    pub(super) fn heartbeat(self, out: &mut Vec<u8>) {
        match self {
            Self::Events => out.extend_from_slice(b": keep-alive\n\n"),
            Self::Lines(_) | Self::Array => out.push(b'\n'),
            Self::Raw => {}
        }
    }

    /// Appends the end after success.
    pub(super) fn end(self, begun: bool, out: &mut Vec<u8>) {
        match self {
            Self::Events => out.extend_from_slice(b"event: end\ndata: {}\n\n"),
            Self::Array => out.extend_from_slice(if begun { b"]\n" } else { b"[]\n" }),
            Self::Lines(_) | Self::Raw => {}
        }
    }

    /// Appends the end after a failure, with its problem document. False: this form has no place for one.
    pub(super) fn error(self, document: &[u8], begun: bool, out: &mut Vec<u8>) -> bool {
        let (before, after): (&[u8], &[u8]) = match self {
            Self::Events => (b"event: error\ndata: ", b"\n\n"),
            Self::Lines(_) => (b"{\"error\":", b"}\n"),
            Self::Array if begun => (b",\n{\"error\":", b"}]\n"),
            Self::Array => (b"[{\"error\":", b"}]\n"),
            Self::Raw => return false,
        };
        out.extend_from_slice(before);
        out.extend_from_slice(document);
        out.extend_from_slice(after);
        true
    }
}
