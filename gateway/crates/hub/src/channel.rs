//! One channel, under its shard's lock: its log, its batch, its subscribers. A publication goes to the log and the batch; a
//! flush encodes what waits once for each wire and hands the same bytes to everybody whose turn it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::bucket::Bucket;
use crate::clock::{Instant, unix_ms};
use crate::connection::Connection;
use crate::keys::Keys;
use crate::log::{Entry, Log, Memory};
use crate::namespace::Namespace;
use crate::outbox::Place;
use crate::presence::Presence;
use crate::proto::{ChannelKind, CloseCode, Payload, Position, Publication};
use crate::stats::Counters;
use crate::{Closing, Settings};

mod batch;
mod flush;
mod join;

use batch::Batch;

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

    /// Where a reader of an event stream is that has read up to an offset.
    pub(crate) fn mark(&self, offset: u64) -> Place {
        let epoch = self.log.as_ref().map_or_else(|| Arc::from(""), |log| log.epoch().clone());
        Place::At(self.name.clone(), epoch, offset)
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

    pub(crate) fn has_batch(&self) -> bool {
        !self.batch.is_empty()
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
