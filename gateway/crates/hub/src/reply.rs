//! Replies to commands, whoever waits for them.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::codec::Body;
use crate::connection::Connection;
use crate::outbox::Place;
use crate::proto::{Error, ErrorCode, ServerMessage, server_message};
use crate::shared::Shared;

/// An error that trying again does not help.
pub(crate) fn error(code: ErrorCode, message: impl Into<String>) -> Error {
    Error { code: code.into(), message: message.into(), ..Error::default() }
}

/// An error that may be gone after a time.
pub(crate) fn later(code: ErrorCode, message: impl Into<String>, retry_after_ms: u32) -> Error {
    Error { retry_after_ms: retry_after_ms.max(1), ..error(code, message) }
}

/// A message that no command asked for.
pub(crate) fn push(kind: server_message::Kind) -> ServerMessage {
    ServerMessage { id: 0, kind: Some(kind) }
}

/// Who waits for the reply to one command.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A connection, by the command's id; 0: it wants none.
    Connection(Arc<Connection>, u32),
    /// A plain request.
    Once(oneshot::Sender<server_message::Kind>),
}

impl Reply {
    pub(crate) fn connection(&self) -> Option<&Arc<Connection>> {
        match self {
            Self::Connection(connection, _) => Some(connection),
            Self::Once(_) => None,
        }
    }

    /// Answers the command.
    pub(crate) fn send(self, shared: &Shared, kind: server_message::Kind, place: Option<Place>) {
        match self {
            Self::Connection(connection, id) => {
                if id != 0 {
                    let message = ServerMessage { id, kind: Some(kind) };
                    connection.write(shared, &Body::Message(&message), place);
                }
                connection.finish(shared);
            }
            // Nobody may wait any more: then nobody misses it.
            Self::Once(sender) => drop(sender.send(kind)),
        }
    }

    pub(crate) fn fail(self, shared: &Shared, error: Error) {
        self.send(shared, server_message::Kind::Error(error), None);
    }
}
