//! The writing half of a connection.

use bytes::Bytes;

use crate::Closing;

/// What waits for a connection, bounded by bytes.
#[derive(Debug)]
pub struct Outbox {
    closing: Option<Closing>,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self { closing: None }
    }

    /// Waits until there is something to take, or to close. Cancel safe.
    pub async fn ready(&mut self) {
        if self.closing.is_none() {
            std::future::pending().await
        }
    }

    /// Adds pieces that are ready for the socket, up to about `max_bytes`, at least one. False: nothing is left.
    /// Pieces may be shared with other connections.
    pub fn take(&mut self, into: &mut Vec<Bytes>, max_bytes: usize) -> bool {
        let _ = (into, max_bytes);
        false
    }

    /// Why to close, once everything is taken. The push `closing` was among the pieces.
    pub fn closing(&self) -> Option<Closing> {
        self.closing.clone()
    }

    /// EventStream: the `Last-Event-ID` value for what was taken so far; [`crate::Client::resume`] reads it.
    pub fn positions(&self) -> String {
        String::new()
    }
}
