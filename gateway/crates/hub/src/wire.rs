//! How bytes for a client are written: which encoding, and the frame around a message.

use bytes::Bytes;

/// The encoding and framing of one connection; a push is encoded once for all connections with the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// WebSocket text messages, with their headers.
    WebSocketJson,
    /// WebSocket binary messages, with their headers.
    WebSocketProtobuf,
    /// Server-sent events in JSON, without their `id:` lines.
    EventStream,
}

/// How many wires there are.
pub(crate) const WIRES: usize = 3;

impl Wire {
    /// A number below [`WIRES`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Whether messages are JSON.
    pub(crate) fn is_json(self) -> bool {
        self != Self::WebSocketProtobuf
    }

    /// Puts a message into a frame; `event` names it where frames are events. JSON has line breaks only between tokens,
    /// where a blank says the same: an event's data stays one line.
    pub(crate) fn frame(self, event: &str, content: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(content.len() + event.len() + 18);
        match self {
            Self::WebSocketJson => web_socket(0x81, content, &mut out),
            Self::WebSocketProtobuf => web_socket(0x82, content, &mut out),
            Self::EventStream => {
                out.extend_from_slice(format!("event: {event}\ndata: ").as_bytes());
                out.extend(
                    content.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }),
                );
                out.extend_from_slice(b"\n\n");
            }
        }
        out.into()
    }
}

/// RFC 6455, section 5.2: one unfragmented message; servers do not mask.
fn web_socket(first: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    match content.len() {
        len @ 0..=125 => out.push(len as u8),
        len @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_socket_headers_have_the_shortest_length() {
        for (len, header) in [
            (0, vec![0x82, 0]),
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (65_535, vec![0x82, 126, 0xff, 0xff]),
            (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let framed = Wire::WebSocketProtobuf.frame("", &vec![7; len]);
            assert_eq!(&framed[..header.len()], header, "{len}");
            assert_eq!(framed.len(), header.len() + len);
        }
        assert_eq!(Wire::WebSocketJson.frame("", b"{}")[..], [0x81, 2, b'{', b'}']);
    }

    #[test]
    fn an_event_is_one_line_of_data() {
        let framed = Wire::EventStream.frame("message", b"{\"a\":\r\n[1,\n2]}");
        assert_eq!(&framed[..], b"event: message\ndata: {\"a\":  [1, 2]}\n\n");
    }
}
