//! The writing half of a connection: what waits for its socket, bounded by bytes. Pages of recovery are read from the log
//! only when everything before them is taken, so that a slow reader costs no memory.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, atomic::Ordering::Relaxed};
use std::task::{Poll, Waker};

use bytes::Bytes;

use crate::connection::Connection;
use crate::lock::lock;
use crate::shared::Shared;
use crate::{Closing, Wire, positions::Positions};

/// Bytes for a socket, and where a reader is that has read them (only for event streams).
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    pub(crate) place: Option<Arc<Place>>,
}

impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, place: None }
    }
}

/// What changes in a reader's place.
#[derive(Debug)]
pub(crate) enum Place {
    /// It has read a channel up to here.
    At(Arc<str>, Arc<str>, u64),
    /// It is in this channel no more.
    Left(Arc<str>),
    /// It resumes with this ticket.
    Ticket(String),
    /// All of these.
    All(Vec<Place>),
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    Taken,
    /// It does not fit.
    Full,
    /// The connection ends: nothing more is written.
    Closed,
}

/// What waits for a connection.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// Channels whose subscription is behind: pages are read when there is nothing else.
    behind: VecDeque<Arc<str>>,
    closing: Option<Closing>,
    /// Nobody takes any more.
    gone: bool,
    waker: Option<Waker>,
}

impl Queue {
    /// Adds a piece if it fits. One piece always fits an empty queue.
    pub(crate) fn offer(&mut self, piece: Piece, limit: usize) -> Offered {
        if self.gone || self.closing.is_some() {
            return Offered::Closed;
        }
        if self.bytes > 0 && self.bytes + piece.bytes.len() > limit {
            return Offered::Full;
        }
        self.add(piece);
        Offered::Taken
    }

    fn add(&mut self, piece: Piece) {
        self.bytes += piece.bytes.len();
        self.pieces.push_back(piece);
        self.wake();
    }

    /// Has pages of a channel read when there is room.
    pub(crate) fn refill(&mut self, channel: Arc<str>) {
        if !self.gone && self.closing.is_none() && !self.behind.contains(&channel) {
            self.behind.push_back(channel);
            self.wake();
        }
    }

    /// Ends the connection after one last piece; false: it ends already. Where `drop` is set nothing else is written.
    pub(crate) fn close(&mut self, closing: Closing, last: Bytes, drop: bool) -> bool {
        if self.closing.is_some() {
            return false;
        }
        if drop {
            self.pieces.clear();
            self.bytes = 0;
        }
        self.behind.clear();
        self.closing = Some(closing);
        if !self.gone {
            self.add(last.into());
        }
        true
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn closing(&self) -> Option<&Closing> {
        self.closing.as_ref()
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The channel whose next page is to be read, if nothing else waits.
    fn next_behind(&mut self) -> Option<Arc<str>> {
        if self.pieces.is_empty() { self.behind.pop_front() } else { None }
    }

    fn is_idle(&self) -> bool {
        self.pieces.is_empty() && self.behind.is_empty()
    }
}

/// The writing half of a connection. Dropped: nothing is written any more.
#[derive(Debug)]
pub struct Outbox {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    positions: Positions,
}

impl Outbox {
    pub(crate) fn new(shared: Arc<Shared>, connection: Arc<Connection>) -> Self {
        Self { shared, connection, positions: Positions::default() }
    }

    /// Waits until there is something to take, or to close. Cancel safe.
    pub async fn ready(&mut self) {
        poll_fn(|context| {
            let mut queue = lock(&self.connection.queue);
            if !queue.is_idle() || queue.closing.is_some() {
                return Poll::Ready(());
            }
            queue.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Adds pieces that are ready for the socket: at least one where there is one, then while they fit `max_bytes`.
    /// False: nothing is left. Pieces may be shared with other connections.
    pub fn take(&mut self, into: &mut Vec<Bytes>, max_bytes: usize) -> bool {
        let mut taken = 0;
        let left = loop {
            let behind = {
                let mut queue = lock(&self.connection.queue);
                while let Some(piece) = queue.pieces.front() {
                    if taken > 0 && taken + piece.bytes.len() > max_bytes {
                        break;
                    }
                    let Some(piece) = queue.pieces.pop_front() else { break };
                    queue.bytes -= piece.bytes.len();
                    taken += piece.bytes.len();
                    piece.place.iter().for_each(|place| self.positions.apply(place));
                    into.push(piece.bytes);
                }
                if queue.pieces.is_empty() && queue.pieces.capacity() > 32 {
                    queue.pieces.shrink_to(0);
                }
                if taken >= max_bytes || !queue.pieces.is_empty() {
                    break !queue.is_idle();
                }
                queue.next_behind()
            };
            let Some(channel) = behind else { break false };
            self.shared.channels.refill(&self.shared, &self.connection, &channel);
        };
        if taken > 0 {
            self.connection.sent.store(self.shared.tenths(), Relaxed);
            self.shared.counters.bytes.fetch_add(taken as u64, Relaxed);
        }
        left
    }

    /// Why to close, once everything is taken. The push `closing` was among the pieces.
    pub fn closing(&self) -> Option<Closing> {
        lock(&self.connection.queue).closing().cloned()
    }

    /// EventStream: the `Last-Event-ID` value for what was taken so far; [`crate::Client::resume`] reads it.
    pub fn positions(&self) -> String {
        if self.connection.wire == Wire::EventStream { self.positions.to_text() } else { String::new() }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut queue = lock(&self.connection.queue);
        queue.gone = true;
        queue.pieces = VecDeque::new();
        queue.behind = VecDeque::new();
        queue.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::CloseCode;

    fn piece(len: usize) -> Piece {
        Bytes::from(vec![0; len]).into()
    }

    #[test]
    fn a_queue_is_bounded_by_bytes_and_one_piece_always_fits() {
        let mut queue = Queue::default();
        assert_eq!(queue.offer(piece(100), 10), Offered::Taken);
        assert_eq!(queue.offer(piece(1), 10), Offered::Full);
        assert_eq!(queue.offer(piece(1), 101), Offered::Taken);
    }

    #[test]
    fn only_the_first_closing_counts_and_nothing_follows_it() {
        let mut queue = Queue::default();
        queue.offer(piece(1), 10);
        assert!(queue.close(Closing::new(CloseCode::Slow, "a"), Bytes::from_static(b"last"), true));
        assert!(!queue.close(Closing::new(CloseCode::Draining, "b"), Bytes::new(), true));
        assert_eq!(queue.offer(piece(1), 10), Offered::Closed);
        assert_eq!(queue.pieces.len(), 1);
        assert_eq!(queue.closing().map(|closing| closing.code), Some(CloseCode::Slow));
    }
}
