//! The reading half of a connection.

use crate::proto::{CloseCode, Command, Resume};
use crate::{Closing, Hub, Identity, Wire};

/// A connection: what it says goes in here. Dropped: the transport is gone.
#[derive(Debug)]
pub struct Client {
    _hub: Hub,
    _identity: Identity,
    _wire: Wire,
}

impl Client {
    pub(crate) fn new(hub: Hub, identity: Identity, wire: Wire) -> Self {
        Self { _hub: hub, _identity: identity, _wire: wire }
    }

    /// Reads one WebSocket message's content and carries it out. Never blocks; replies go to the outbox. An error: close
    /// with it; the outbox closes with the same.
    pub fn receive(&mut self, frame: &[u8], traceparent: &str) -> Result<(), Closing> {
        let _ = (frame, traceparent);
        Err(Closing::new(CloseCode::Overloaded, "not built yet").after(1_000))
    }

    /// Carries out one command, for transports without frames.
    pub fn command(&mut self, command: Command, traceparent: &str) -> Result<(), Closing> {
        let _ = (command, traceparent);
        Err(Closing::new(CloseCode::Overloaded, "not built yet").after(1_000))
    }

    /// What a `Last-Event-ID` made by [`crate::Outbox::positions`] says: the ticket and places to resume from. None: it is not one.
    pub fn resume(last_event_id: &str) -> Option<(String, Vec<Resume>)> {
        let _ = last_event_id;
        None
    }
}
