//! Handing out what waits: at once in a quiet channel, gathered in a busy one, encoded once for each wire.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{Channel, Context, Standing, slow};
use crate::codec::{self, Body};
use crate::log::{Entries, Entry};
use crate::outbox::{Offered, Piece};
use crate::proto::ChannelKind;
use crate::wire::WIRES;
use crate::{Settings, Wire};

/// So many sockets are written in a little less than a millisecond: a busy channel gathers a millisecond longer for
/// each such number of subscribers, up to a bound.
const WRITTEN: u64 = 80;
const GATHERING_MORE_MS: u64 = 50;

impl Channel {
    /// Hands what waits to everybody who is live and whose turn it is: to all where the channel was quiet, or where much
    /// waits.
    pub(crate) fn flush(&mut self, context: Context) {
        let pace = (context.settings.flush, self.gathering(context.settings));
        let large = self.batch.bytes() >= context.settings.coalesce_bytes;
        let Some(turn) = self.batch.take(context.now, pace, large) else { return };
        // By where they begin: most often all who have a turn miss the same.
        let mut batches: Vec<(usize, Encoded)> = vec![];
        let (mut delivered, mut slow) = (0, vec![]);
        for (id, subscriber) in &self.subscribers {
            let Some((from, before)) = turn.of(*id).filter(|_| subscriber.standing == Standing::Live) else {
                continue;
            };
            let known = batches.iter().position(|(begin, _)| *begin == from);
            let index = known.unwrap_or_else(|| {
                batches.push((from, Encoded::new(self, &turn.entries[from..])));
                batches.len() - 1
            });
            let encoded = &mut batches[index].1;
            let piece = encoded.piece(subscriber.connection.wire);
            match subscriber.connection.offer(piece, context.settings.outbox_bytes) {
                Offered::Taken => delivered += encoded.entries.len(),
                Offered::Full => slow.push((*id, before, encoded.entries.len())),
                Offered::Closed => {}
            }
        }
        context.counters.deliveries.fetch_add(delivered as u64, Relaxed);
        slow.into_iter().for_each(|(id, before, entries)| self.lag(id, before, entries, context));
    }

    /// What did not fit a subscriber: dropped, read later, or the end of its connection.
    fn lag(&mut self, id: u64, before: u64, entries: usize, context: Context) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        match self.namespace.kind {
            ChannelKind::Latest => {
                subscriber.standing = Standing::Behind(before);
                subscriber.connection.refill(self.name.clone());
            }
            ChannelKind::Stream => {
                let connection = self.subscribers.remove(&id).map(|subscriber| subscriber.connection);
                connection.iter().for_each(|connection| connection.close(slow(), context.counters));
            }
            _ => drop(context.counters.dropped.fetch_add(entries as u64, Relaxed)),
        }
    }

    /// Tells everybody who came and went.
    pub(crate) fn flush_presence(&mut self, context: Context) {
        let Some(presence) = self.presence.as_mut().filter(|presence| presence.has_changes()) else { return };
        let change = presence.changes(&self.name);
        if !self.namespace.presence {
            return;
        }
        let message = crate::reply::push(crate::proto::server_message::Kind::PresenceChange(change));
        let mut pieces: [Option<Piece>; WIRES] = [const { None }; WIRES];
        for subscriber in self.subscribers.values() {
            let wire = subscriber.connection.wire;
            let piece = pieces[wire.index()]
                .get_or_insert_with(|| codec::write(wire, &Body::Message(&message)).into());
            let full =
                subscriber.connection.offer(piece.clone(), context.settings.outbox_bytes) == Offered::Full;
            if full && self.namespace.kind == ChannelKind::Stream {
                subscriber.connection.close(slow(), context.counters);
            }
        }
    }

    /// How long it gathers while it is busy: longer the more subscribers there are, for each of whom a flush is a
    /// write: where flushes follow each other without a pause, a publication waits for the writes of those before it.
    fn gathering(&self, settings: &Settings) -> Duration {
        match settings.flush {
            Duration::ZERO => Duration::ZERO,
            least => {
                let more = (self.subscribers.len() as u64 / WRITTEN).min(GATHERING_MORE_MS);
                least + Duration::from_millis(more)
            }
        }
    }

    /// A push of publications.
    pub(super) fn publications(&self, wire: Wire, entries: &[Entry]) -> Piece {
        let bytes = codec::write(wire, &Body::Publications { channel: &self.name, entries });
        let last = entries.last().map_or(0, Entry::offset);
        Piece { bytes, place: (wire == Wire::EventStream).then(|| Arc::new(self.mark(last))) }
    }
}

/// Of several values of a key in one batch only the newest counts.
fn newest_of_each_key(batch: &[Entry]) -> Entries {
    let mut seen = HashSet::new();
    let mut entries: Entries =
        batch.iter().rev().filter(|entry| seen.insert(entry.latest_key())).cloned().collect();
    entries.reverse();
    entries
}

/// One batch, encoded for each wire at its first use.
struct Encoded<'a> {
    channel: &'a Channel,
    entries: Cow<'a, [Entry]>,
    pieces: [Option<Piece>; WIRES],
}

impl<'a> Encoded<'a> {
    fn new(channel: &'a Channel, batch: &'a [Entry]) -> Self {
        let entries = match channel.namespace.kind {
            ChannelKind::Latest => newest_of_each_key(batch).into(),
            _ => batch.into(),
        };
        Self { channel, entries, pieces: [const { None }; WIRES] }
    }

    fn piece(&mut self, wire: Wire) -> Piece {
        let Self { channel, entries, pieces } = self;
        pieces[wire.index()].get_or_insert_with(|| channel.publications(wire, entries)).clone()
    }
}
