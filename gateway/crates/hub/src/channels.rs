//! All channels, spread over many locks, and the flushers.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::channel::{Channel, Context, Draft};
use crate::clock::Instant;
use crate::connection::Connection;
use crate::lock::lock;
use crate::namespace::Namespace;
use crate::proto::{self, ErrorCode, Position};
use crate::shared::Shared;
use crate::{ids, reply};

const SHARDS: usize = 64;
/// Busy channels are flushed by so many tasks, each for its own shards.
pub(crate) const FLUSHERS: usize = 4;

type Shard = Mutex<HashMap<Arc<str>, Channel>>;

/// A connection that broke: its session leaves the channel when the time comes, unless it is back.
#[derive(Debug)]
pub(crate) struct Parting {
    pub(crate) at: Instant,
    pub(crate) channel: Arc<str>,
    pub(crate) session: Arc<str>,
    pub(crate) connection: u64,
}

/// All channels.
pub(crate) struct Channels {
    shards: Vec<Shard>,
    hasher: RandomState,
    count: AtomicUsize,
    due: Vec<Arc<Due>>,
    /// Channels in which somebody came or went.
    presence: Mutex<Vec<Arc<str>>>,
    /// In the order of their times.
    pub(crate) parting: Mutex<VecDeque<Parting>>,
}

/// Channels whose batch waits for one flusher.
#[derive(Default)]
pub(crate) struct Due {
    pub(crate) names: Mutex<Vec<Arc<str>>>,
    pub(crate) notify: Notify,
}

impl Default for Channels {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
            due: (0..FLUSHERS).map(|_| Arc::default()).collect(),
            presence: Mutex::default(),
            parting: Mutex::default(),
        }
    }
}

impl Channels {
    fn shard(&self, name: &str) -> usize {
        self.hasher.hash_one(name) as usize % SHARDS
    }

    pub(crate) fn due(&self, flusher: usize) -> Arc<Due> {
        self.due[flusher].clone()
    }

    /// Does something in a channel that is there.
    pub(crate) fn with<R>(&self, name: &str, then: impl FnOnce(&mut Channel) -> R) -> Option<R> {
        lock(&self.shards[self.shard(name)]).get_mut(name).map(then)
    }

    /// Does something in a channel, and makes it where it is not there.
    pub(crate) fn with_new<R>(
        &self,
        name: &str,
        namespace: &Arc<Namespace>,
        bound: usize,
        then: impl FnOnce(&mut Channel) -> R,
    ) -> Result<R, proto::Error> {
        let mut shard = lock(&self.shards[self.shard(name)]);
        if let Some(channel) = shard.get_mut(name) {
            return Ok(then(channel));
        }
        if self.count.load(Relaxed) >= bound {
            return Err(reply::later(ErrorCode::LimitExceeded, "the gateway has too many channels", 5_000));
        }
        self.count.fetch_add(1, Relaxed);
        let name: Arc<str> = name.into();
        let channel = Channel::new(name.clone(), namespace.clone(), || ids::epoch().into());
        Ok(then(shard.entry(name).or_insert(channel)))
    }

    /// Publishes: into the log, and to subscribers at once or with the next flush.
    pub(crate) fn publish(
        &self,
        shared: &Shared,
        namespace: &Arc<Namespace>,
        name: &str,
        draft: Draft,
    ) -> Result<(Option<Position>, bool), proto::Error> {
        let settings = shared.settings();
        let context = shared.context(&settings);
        let publish = |channel: &mut Channel| {
            let (offset, duplicate) = channel.publish(draft, context);
            channel.flush(context);
            if channel.has_batch() && !channel.scheduled {
                channel.scheduled = true;
                self.schedule(channel.name.clone());
            }
            (channel.place(offset).or(Some(Position::default())), duplicate)
        };
        self.with_new(name, namespace, settings.channels, publish)
    }

    fn schedule(&self, name: Arc<str>) {
        let due = &self.due[self.shard(&name) % FLUSHERS];
        lock(&due.names).push(name);
        due.notify.notify_one();
    }

    /// Flushes what waited for one flusher; what is to gather longer waits for it again.
    pub(crate) fn flush_due(&self, due: &Due, context: Context) {
        let names = std::mem::take(&mut *lock(&due.names));
        for name in names {
            self.with(&name, |channel| {
                channel.flush(context);
                channel.scheduled = channel.has_batch();
                if channel.scheduled {
                    self.schedule(channel.name.clone());
                }
            });
        }
    }

    /// Reads the next page for a connection that is behind.
    pub(crate) fn refill(&self, shared: &Shared, connection: &Connection, name: &str) {
        let settings = shared.settings();
        self.with(name, |channel| channel.refill(connection, shared.context(&settings)));
    }

    /// Somebody came or went: told with the next tick.
    pub(crate) fn presence_changed(&self, name: Arc<str>) {
        lock(&self.presence).push(name);
    }

    pub(crate) fn flush_presence(&self, context: Context) {
        let names = std::mem::take(&mut *lock(&self.presence));
        for name in names {
            self.with(&name, |channel| channel.flush_presence(context));
        }
    }

    /// Forgets channels that nobody is in and whose history is over: a part of them at each tick.
    pub(crate) fn sweep(&self, tick: usize, context: Context) {
        let shard = &mut *lock(&self.shards[tick % SHARDS]);
        shard.retain(|_, channel| {
            let over = channel.sweep(context);
            self.count.fetch_sub(usize::from(over), Relaxed);
            !over
        });
    }

    /// The settings of a namespace changed. A channel that keeps something else than before begins anew: its subscribers are
    /// returned, to subscribe again.
    pub(crate) fn reconfigure(&self, namespace: &Arc<Namespace>) -> Vec<(Arc<str>, Arc<Connection>)> {
        let mut ended = vec![];
        for shard in &self.shards {
            lock(shard).retain(|name, channel| {
                if channel.namespace.name != namespace.name {
                    return true;
                }
                if channel.namespace.kind == namespace.kind {
                    channel.namespace = namespace.clone();
                    if namespace.members() && channel.presence.is_none() {
                        channel.presence = Some(Box::default());
                    }
                    return true;
                }
                let of = |s: crate::channel::Subscriber| (name.clone(), s.connection);
                ended.extend(channel.subscribers.drain().map(|(_, subscriber)| of(subscriber)));
                self.count.fetch_sub(1, Relaxed);
                false
            });
        }
        ended
    }

    /// Channels, subscriptions, entries in logs, their bytes.
    pub(crate) fn sizes(&self) -> (usize, usize, usize, usize) {
        let mut sizes = (0, 0, 0, 0);
        for shard in &self.shards {
            for channel in lock(shard).values() {
                let (entries, bytes) = channel.log.as_ref().map_or((0, 0), |log| log.size());
                sizes =
                    (sizes.0 + 1, sizes.1 + channel.subscribers.len(), sizes.2 + entries, sizes.3 + bytes);
            }
        }
        sizes
    }
}
