//! One channel, under its shard's lock: its log, its batch, its subscribers. A publication goes to the log and the batch; a
//! flush encodes the batch once for each wire and hands the same bytes to everybody.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::bucket::Bucket;
use crate::clock::{Instant, unix_ms};
use crate::codec::{self, Body};
use crate::connection::Connection;
use crate::keys::Keys;
use crate::log::{Entries, Entry, Log, Memory};
use crate::namespace::Namespace;
use crate::outbox::{Offered, Piece, Place};
use crate::presence::Presence;
use crate::proto::{ChannelKind, CloseCode, Payload, Position, Publication};
use crate::stats::Counters;
use crate::wire::WIRES;
use crate::{Closing, Settings, Wire};

mod batch;
mod join;

use batch::Batch;

/// How many sockets are written in half a millisecond to one: a busy channel gathers a millisecond longer for each such
/// number of subscribers, up to a bound.
const WRITTEN: u64 = 80;
const GATHERING_MORE_MS: u64 = 50;

/// What a channel needs from around it.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) counters: &'a Counters,
    pub(crate) now: Instant,
}

/// Something to publish.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) data: Option<Payload>,
    pub(crate) latest_key: String,
    pub(crate) removed: bool,
    pub(crate) sender: String,
    /// Scoped by [`crate::keys::scoped`]; empty: none.
    pub(crate) key: String,
    /// Remember the key, deliver nothing.
    pub(crate) silent: bool,
}

/// Where a subscriber is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It gets what is flushed.
    Live,
    /// It has everything up to this offset; the rest is read from the log as its connection takes it.
    Behind(u64),
}

pub(crate) struct Subscriber {
    pub(crate) connection: Arc<Connection>,
    pub(crate) standing: Standing,
}

/// One channel.
pub(crate) struct Channel {
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<Namespace>,
    /// None: live.
    pub(crate) log: Option<Box<dyn Log>>,
    pub(crate) keys: Keys,
    pub(crate) subscribers: HashMap<u64, Subscriber>,
    pub(crate) presence: Option<Box<Presence>>,
    pub(crate) rate: Option<Bucket>,
    /// A flush is due by the flusher.
    pub(crate) scheduled: bool,
    batch: Batch,
    published_at: Option<Instant>,
}

impl Channel {
    pub(crate) fn new(name: Arc<str>, namespace: Arc<Namespace>, epoch: impl FnOnce() -> Arc<str>) -> Self {
        let log: Option<Box<dyn Log>> = match namespace.kind {
            ChannelKind::Stream => Some(Box::new(Memory::new(epoch(), false))),
            ChannelKind::Latest => Some(Box::new(Memory::new(epoch(), true))),
            _ => None,
        };
        let presence = namespace.members().then(Box::default);
        Self {
            name,
            namespace,
            log,
            keys: Keys::default(),
            subscribers: HashMap::new(),
            presence,
            rate: None,
            scheduled: false,
            batch: Batch::default(),
            published_at: None,
        }
    }

    /// The place of an offset of this channel. Live: none.
    pub(crate) fn place(&self, offset: u64) -> Option<Position> {
        self.log.as_ref().map(|log| Position { epoch: log.epoch().to_string(), offset })
    }

    /// The newest place that a live subscriber knows of.
    pub(crate) fn top(&self, connection: u64) -> Option<Position> {
        self.place(self.batch.offset(connection))
    }

    /// Publishes, unless the key is there already. Gives the offset, and whether it was.
    pub(crate) fn publish(&mut self, draft: Draft, context: Context) -> (u64, bool) {
        if let Some(offset) = self.keys.get(&draft.key).filter(|_| !draft.key.is_empty()) {
            return (offset, true);
        }
        let bounds = self.namespace.bounds(context.settings);
        let (key, silent) = (draft.key, draft.silent);
        let mut offset = 0;
        if !silent {
            let publication = Publication {
                data: draft.data,
                latest_key: draft.latest_key,
                removed: draft.removed,
                sender: draft.sender,
                time_ms: unix_ms(),
                ..Publication::default()
            };
            let entry = match &mut self.log {
                Some(log) => log.append(publication, bounds),
                None => Entry::new(&publication),
            };
            offset = entry.offset();
            self.accept(entry, context);
        }
        if !key.is_empty() {
            self.keys.insert(&key, offset, bounds.entries, context.now);
        }
        (offset, false)
    }

    /// The log has kept a publication: it is delivered with the next flush.
    pub(crate) fn accept(&mut self, entry: Entry, context: Context) {
        context.counters.publications.fetch_add(1, Relaxed);
        self.published_at = Some(context.now);
        self.batch.push(entry);
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

    pub(crate) fn has_batch(&self) -> bool {
        !self.batch.is_empty()
    }

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

    /// Drops a history whose time is over. True: nothing is left that is worth keeping the channel for.
    pub(crate) fn sweep(&mut self, context: Context) -> bool {
        let age = self.namespace.age(context.settings);
        let old = |at: Option<Instant>| at.is_none_or(|at| context.now.duration_since(at) >= age);
        let kept = self.log.is_some() && !old(self.published_at);
        let old = !kept && old(self.keys.newest_at()) && self.batch.is_empty();
        let empty = self.subscribers.is_empty() && self.presence.as_ref().is_none_or(|p| p.is_empty());
        if old && self.namespace.kind == ChannelKind::Stream && self.published_at.take().is_some() {
            self.log.iter_mut().for_each(|log| log.clear());
        }
        if old {
            self.keys.clear();
        }
        old && empty
    }
}

/// A client that does not read, or not as fast as the log forgets.
pub(crate) fn slow() -> Closing {
    Closing::new(CloseCode::Slow, "the connection did not read fast enough")
        .after(100 + crate::clock::jitter(900))
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

impl Channel {
    /// A push of publications.
    fn publications(&self, wire: Wire, entries: &[Entry]) -> Piece {
        let bytes = codec::write(wire, &Body::Publications { channel: &self.name, entries });
        let last = entries.last().map_or(0, Entry::offset);
        Piece { bytes, place: (wire == Wire::EventStream).then(|| Arc::new(self.mark(last))) }
    }

    /// Where a reader of an event stream is that has read up to an offset.
    pub(crate) fn mark(&self, offset: u64) -> Place {
        let epoch = self.log.as_ref().map_or_else(|| Arc::from(""), |log| log.epoch().clone());
        Place::At(self.name.clone(), epoch, offset)
    }
}
