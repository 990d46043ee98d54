//! What a client's frames mean: messages of the request, in JSON or protobuf, and the request's end.

use super::{Endpoint, piped::Item, problems, websocket::Wire};
use crate::edge::{Code, Problem};
use bytes::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::Relaxed},
};
use tokio_tungstenite::tungstenite::{Message, error::CapacityError, error::Error};
use transcode::Matched;

/// How a socket ends.
#[derive(Debug)]
pub(super) enum End {
    /// The call was OK.
    Done,
    /// The problem goes into a last frame; the code is its status, unless the protocol has a code of its own.
    Failed(Problem, Option<u16>),
    /// The gateway stops.
    GoingAway,
    /// The client has left, or said goodbye first.
    Left,
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem, None)
    }
}

/// How messages are written: as JSON until a frame or the subprotocol says otherwise, and then the same way for good.
#[derive(Default)]
pub(super) struct Agreed(AtomicU8);

impl Agreed {
    pub(super) fn new(wire: Option<Wire>) -> Self {
        let agreed = Self::default();
        wire.map(|wire| agreed.fix(wire));
        agreed
    }

    /// How answers are written.
    pub(super) fn wire(&self) -> Wire {
        if self.0.load(Relaxed) == 2 { Wire::Proto } else { Wire::Json }
    }

    /// A frame came written like this. Whether that is how frames are written here.
    fn fix(&self, wire: Wire) -> bool {
        let value = if wire == Wire::Proto { 2 } else { 1 };
        self.0.compare_exchange(0, value, Relaxed, Relaxed).map_or_else(|before| before == value, |_| true)
    }
}

/// Makes items of frames.
pub(super) struct Inbound {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) matched: Arc<Matched>,
    pub(super) query: Option<String>,
    /// The next message is not the first.
    pub(super) begun: bool,
}

impl Inbound {
    /// What a frame means; nothing where it is about the connection.
    pub(super) fn read(
        &mut self,
        frame: Option<Result<Message, Error>>,
        agreed: &Agreed,
    ) -> Result<Option<Item>, End> {
        match frame {
            Some(Ok(Message::Text(text))) if text.is_empty() => Ok(Some(Item::End)),
            Some(Ok(Message::Text(text))) => {
                expect(agreed.fix(Wire::Json), "This WebSocket has binary frames of protobuf.")?;
                Ok(Some(Item::Message(self.json(text.as_bytes())?)))
            }
            Some(Ok(Message::Binary(data))) => {
                expect(agreed.fix(Wire::Proto), "This WebSocket has text frames of JSON.")?;
                Ok(Some(Item::Message(self.proto(data)?)))
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
            Some(Ok(Message::Close(_))) | None => Err(End::Left),
            Some(Err(error)) => Err(self.refused(&error)),
        }
    }

    fn json(&mut self, json: &[u8]) -> Result<Bytes, Problem> {
        let begun = std::mem::replace(&mut self.begun, true);
        let encoded = match (self.matched.takes_body(), begun) {
            // The path and the query were the first message; nothing of a later one is bound to them.
            (false, _) => self.endpoint.method.request_from_json(json),
            (true, false) => self.matched.encode_request(self.query.as_deref(), json),
            (true, true) => self.matched.encode_next(json),
        };
        encoded.map(Bytes::from).map_err(|error| problems::from_transcode(&self.endpoint, &error))
    }

    /// A whole request message. What path and query say comes last and so wins, as protobuf merges.
    fn proto(&mut self, data: Bytes) -> Result<Bytes, Problem> {
        if std::mem::replace(&mut self.begun, true) || !self.matched.takes_body() {
            return Ok(data);
        }
        let bound = self.matched.encode_request(self.query.as_deref(), b"");
        let bound = bound.map_err(|error| problems::from_transcode(&self.endpoint, &error))?;
        Ok(if bound.is_empty() { data } else { [&data[..], &bound].concat().into() })
    }

    fn refused(&self, error: &Error) -> End {
        let invalid = |detail, code| End::Failed(Problem::new(Code::InvalidArgument, detail), Some(code));
        match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                let limit = self.endpoint.limits.body_bytes;
                let detail = format!("The message exceeds {limit} bytes.");
                End::Failed(Problem::new(Code::BodyTooLarge, detail), Some(1009))
            }
            Error::Utf8(_) => invalid("A text frame is not UTF-8.", 1007),
            Error::Protocol(
                tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            ) => End::Left,
            Error::Protocol(_) => invalid("A frame breaks the WebSocket protocol.", 1002),
            _ => End::Left,
        }
    }
}

fn expect(agreed: bool, detail: &'static str) -> Result<(), End> {
    match agreed {
        true => Ok(()),
        false => Err(End::Failed(Problem::new(Code::InvalidArgument, detail), Some(1003))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frame_or_the_subprotocol_fixes_how_messages_are_written() {
        let open = Agreed::default();
        assert_eq!(open.wire(), Wire::Json);
        assert!(open.fix(Wire::Proto) && open.fix(Wire::Proto) && !open.fix(Wire::Json));
        assert_eq!(open.wire(), Wire::Proto);
        assert!(!Agreed::new(Some(Wire::Json)).fix(Wire::Proto));
    }
}
