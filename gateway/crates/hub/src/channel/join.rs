//! How a subscriber comes in: what it missed first, then what is new, with neither a gap nor a repeat between. It is handed
//! what was flushed; what is in the batch at that moment comes with the next flush.

use std::sync::Arc;

use super::{Channel, Context, Standing, Subscriber, slow};
use crate::connection::Connection;
use crate::log::{Entries, Entry, Page};
use crate::outbox::Offered;
use crate::proto::{ChannelKind, HistoryPage, Position, Subscribed};

impl Channel {
    /// Adds a subscriber that has what comes up to `from`. Its first page is at most `bytes`. Parked: it gets nothing until
    /// [`Channel::refill`] is called for it; so it is where more than a page is missing.
    pub(crate) fn join(
        &mut self,
        connection: &Arc<Connection>,
        from: Option<&Position>,
        bytes: usize,
        park: bool,
        context: Context,
    ) -> (Subscribed, Entries) {
        let flushed = self.batch.offset(connection.id);
        let (start, recovered) = self.start(from, flushed);
        let entries_at_once = self.namespace.bounds(context.settings).entries;
        let mut page = match &self.log {
            Some(log) => log.after(start, flushed, bytes, entries_at_once),
            None => Page::default(),
        };
        // What does not fit beside what waits already is read when that is taken.
        if page.entries.first().is_some_and(|entry| entry.protobuf().len() > bytes) {
            page = Page { entries: vec![], more: true };
        }
        let at = if page.more { page.entries.last().map_or(start, Entry::offset) } else { flushed };
        let standing = if page.more || park { Standing::Behind(at) } else { Standing::Live };
        self.subscribers.insert(connection.id, Subscriber { connection: connection.clone(), standing });
        self.batch.grow(self.subscribers.len());
        if from.is_some() && self.log.is_some() {
            let counters = context.counters;
            let which = if recovered { &counters.recovered } else { &counters.not_recovered };
            which.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        let head = Subscribed {
            channel: self.name.to_string(),
            kind: self.namespace.kind.into(),
            position: self.place(at),
            recovered,
            more: page.more,
            ..Subscribed::default()
        };
        (head, page.entries)
    }

    /// Where a subscriber starts to whom what is `flushed` counts as told, and whether it misses nothing.
    fn start(&self, from: Option<&Position>, flushed: u64) -> (u64, bool) {
        let Some(log) = &self.log else { return (0, true) };
        // Without a place: a stream goes on from now, a latest begins with all its values.
        let anew = if self.namespace.kind == ChannelKind::Latest { log.floor() } else { flushed };
        match from {
            None => (anew, true),
            Some(from) if self.has_all_after(from) => (from.offset.min(flushed), true),
            Some(_) => (anew, false),
        }
    }

    fn has_all_after(&self, from: &Position) -> bool {
        self.log.as_ref().is_some_and(|log| **log.epoch() == *from.epoch && log.holds_after(from.offset))
    }

    /// Reads the next page for a subscriber that is behind, and makes it live where that was the last.
    pub(crate) fn refill(&mut self, connection: &Connection, context: Context) {
        let Some(subscriber) = self.subscribers.get(&connection.id) else { return };
        let Standing::Behind(at) = subscriber.standing else { return };
        let mut more = false;
        if let Some(log) = &self.log {
            if !log.holds_after(at) {
                self.subscribers.remove(&connection.id);
                return connection.close(slow(), context.counters);
            }
            let page =
                log.after(at, self.batch.offset(connection.id), context.settings.coalesce_bytes, usize::MAX);
            more = page.more;
            if let Some(last) = page.entries.last().map(Entry::offset) {
                let piece = self.publications(connection.wire, &page.entries);
                if connection.offer(piece, context.settings.outbox_bytes) == Offered::Full {
                    return connection.refill(self.name.clone());
                }
                let count = page.entries.len() as u64;
                context.counters.deliveries.fetch_add(count, std::sync::atomic::Ordering::Relaxed);
                self.stand(connection.id, Standing::Behind(last));
            }
        }
        if more {
            connection.refill(self.name.clone());
        } else {
            self.stand(connection.id, Standing::Live);
        }
    }

    fn stand(&mut self, id: u64, standing: Standing) {
        if let Some(subscriber) = self.subscribers.get_mut(&id) {
            subscriber.standing = standing;
        }
    }

    /// A page of history: after a place, or from the oldest that is kept. None: the channel keeps none.
    pub(crate) fn history(
        &self,
        from: Option<&Position>,
        limit: usize,
        bytes: usize,
    ) -> Option<(HistoryPage, Entries)> {
        let log = self.log.as_ref()?;
        let head = HistoryPage { top: self.place(log.top()), found: true, ..HistoryPage::default() };
        if from.is_some_and(|from| !self.has_all_after(from)) {
            return Some((HistoryPage { found: false, ..head }, vec![]));
        }
        let page = log.after(from.map_or(log.floor(), |from| from.offset), log.top(), bytes, limit);
        Some((HistoryPage { more: page.more, ..head }, page.entries))
    }
}
