//! Where a channel's publications are kept, and the memory engine. Offsets increase, not always by one, so that an engine
//! whose log is shared fits: one that answers later calls `Channel::accept` with what it has kept, instead of at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prost::Message;

use crate::codec;
use crate::proto::Publication;

/// A publication that is kept, encoded once. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Entry(Arc<Kept>);

/// Several, oldest first.
pub(crate) type Entries = Vec<Entry>;

#[derive(Debug)]
struct Kept {
    offset: u64,
    latest_key: Box<str>,
    protobuf: Bytes,
    json: OnceLock<Box<[u8]>>,
}

impl Entry {
    pub(crate) fn new(publication: &Publication) -> Self {
        Self(Arc::new(Kept {
            offset: publication.offset,
            latest_key: publication.latest_key.as_str().into(),
            protobuf: publication.encode_to_vec().into(),
            json: OnceLock::new(),
        }))
    }

    pub(crate) fn offset(&self) -> u64 {
        self.0.offset
    }

    pub(crate) fn latest_key(&self) -> &str {
        &self.0.latest_key
    }

    /// A `Publication` in protobuf.
    pub(crate) fn protobuf(&self) -> &[u8] {
        &self.0.protobuf
    }

    /// Adds a `Publication` in JSON, made when a client first needs it.
    pub(crate) fn json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.json.get_or_init(|| {
            let mut text = Vec::new();
            codec::to_json(&self.publication(), &mut text);
            text.into()
        }));
    }

    pub(crate) fn publication(&self) -> Publication {
        Publication::decode(self.0.protobuf.clone()).unwrap_or_default()
    }

    /// Bytes that it counts for: both encodings, and what surrounds them.
    pub(crate) fn cost(&self) -> usize {
        2 * self.0.protobuf.len() + 128
    }
}

/// How much a log keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
}

/// A part of a log.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) entries: Entries,
    /// There are more after it.
    pub(crate) more: bool,
}

/// One channel's log.
pub(crate) trait Log: Send {
    /// Names this uninterrupted history.
    fn epoch(&self) -> &Arc<str>;
    /// The newest offset; 0: none yet.
    fn top(&self) -> u64;
    /// Gives a publication its offset and the one before it, and keeps it.
    fn append(&mut self, publication: Publication, bounds: Bounds) -> Entry;
    /// Whether everything after an offset is here.
    fn holds_after(&self, offset: u64) -> bool;
    /// What comes after an offset, up to and with another; at least one, if there is one, up to `bytes` and `entries`.
    fn after(&self, offset: u64, up_to: u64, bytes: usize, entries: usize) -> Page;
    /// The newest offset before the oldest that is kept.
    fn floor(&self) -> u64;
    /// Drops everything; the epoch goes on.
    fn clear(&mut self);
    /// Entries and bytes.
    fn size(&self) -> (usize, usize);
}

/// A log in memory: of everything, or of the newest entry of each key.
pub(crate) struct Memory {
    epoch: Arc<str>,
    top: u64,
    floor: u64,
    entries: BTreeMap<u64, Entry>,
    bytes: usize,
    /// latest: where each key's value is.
    keys: Option<HashMap<Box<str>, u64>>,
}

impl Memory {
    pub(crate) fn new(epoch: Arc<str>, latest: bool) -> Self {
        let keys = latest.then(HashMap::new);
        Self { epoch, top: 0, floor: 0, entries: BTreeMap::new(), bytes: 0, keys }
    }

    fn remove(&mut self, offset: u64) -> Option<Entry> {
        let entry = self.entries.remove(&offset)?;
        self.bytes -= entry.cost();
        Some(entry)
    }

    fn drop_oldest(&mut self) {
        let Some(offset) = self.entries.keys().next().copied() else { return };
        if let (Some(entry), Some(keys)) = (self.remove(offset), &mut self.keys) {
            keys.remove(entry.latest_key());
        }
        self.floor = offset;
    }
}

impl Log for Memory {
    fn epoch(&self) -> &Arc<str> {
        &self.epoch
    }

    fn top(&self) -> u64 {
        self.top
    }

    fn append(&mut self, mut publication: Publication, bounds: Bounds) -> Entry {
        publication.offset = self.top + 1;
        publication.previous = if self.keys.is_none() { self.top } else { 0 };
        self.top = publication.offset;
        let entry = Entry::new(&publication);
        let replaced = self.keys.as_mut().and_then(|keys| keys.insert(entry.latest_key().into(), self.top));
        replaced.and_then(|offset| self.remove(offset));
        self.bytes += entry.cost();
        self.entries.insert(self.top, entry.clone());
        while self.entries.len() > bounds.entries.max(1)
            || (self.bytes > bounds.bytes && self.entries.len() > 1)
        {
            self.drop_oldest();
        }
        entry
    }

    fn holds_after(&self, offset: u64) -> bool {
        (self.floor..=self.top).contains(&offset)
    }

    fn after(&self, offset: u64, up_to: u64, bytes: usize, entries: usize) -> Page {
        let mut page = Page::default();
        let mut size = 0;
        if offset >= up_to {
            return page;
        }
        for entry in self.entries.range(offset + 1..=up_to).map(|(_, entry)| entry) {
            size += entry.protobuf().len();
            if !page.entries.is_empty() && (size > bytes || page.entries.len() >= entries) {
                page.more = true;
                break;
            }
            page.entries.push(entry.clone());
        }
        page
    }

    fn floor(&self) -> u64 {
        self.floor
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.keys.iter_mut().for_each(HashMap::clear);
        self.bytes = 0;
        self.floor = self.top;
    }

    fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Payload;

    const MANY: Bounds = Bounds { entries: 100, bytes: 1 << 20 };

    fn publication(key: &str) -> Publication {
        Publication { data: Some(Payload::json("1")), latest_key: key.into(), ..Default::default() }
    }

    fn offsets(page: &Page) -> Vec<u64> {
        page.entries.iter().map(Entry::offset).collect()
    }

    #[test]
    fn a_stream_is_a_chain_and_forgets_its_oldest() {
        let mut log = Memory::new("e".into(), false);
        for _ in 0..5 {
            log.append(publication(""), Bounds { entries: 3, ..MANY });
        }
        assert_eq!(offsets(&log.after(0, 5, 1 << 20, 100)), [3, 4, 5]);
        let all: Vec<_> =
            log.after(2, 5, 1 << 20, 100).entries.iter().map(|e| e.publication().previous).collect();
        assert_eq!(all, [2, 3, 4]);
        assert!(!log.holds_after(1) && log.holds_after(2) && log.holds_after(5) && !log.holds_after(6));
    }

    #[test]
    fn bytes_bound_it_too_but_the_newest_stays() {
        let mut log = Memory::new("e".into(), false);
        for _ in 0..3 {
            log.append(publication(""), Bounds { entries: 100, bytes: 1 });
        }
        assert_eq!(log.size().0, 1);
        assert!(log.holds_after(2));
    }

    #[test]
    fn pages_stop_at_their_bounds_and_say_so() {
        let mut log = Memory::new("e".into(), false);
        (0..10).for_each(|_| drop(log.append(publication(""), MANY)));
        let page = log.after(2, 9, 1 << 20, 3);
        assert_eq!((offsets(&page), page.more), (vec![3, 4, 5], true));
        let page = log.after(6, 9, 1 << 20, 3);
        assert_eq!((offsets(&page), page.more), (vec![7, 8, 9], false));
        assert_eq!(offsets(&log.after(0, 9, 1, 100)), [1]);
        assert_eq!(offsets(&log.after(9, 9, 1, 100)), [0; 0]);
    }

    #[test]
    fn a_latest_keeps_the_newest_of_each_key_in_the_order_of_change() {
        let mut log = Memory::new("e".into(), true);
        for key in ["a", "b", "a", "c"] {
            log.append(publication(key), MANY);
        }
        assert_eq!(offsets(&log.after(0, 4, 1 << 20, 100)), [2, 3, 4]);
        assert!(log.holds_after(0));
        log.append(publication("d"), Bounds { entries: 3, ..MANY });
        assert!(!log.holds_after(1) && log.holds_after(2));
    }

    #[test]
    fn who_is_at_the_top_misses_nothing_when_a_log_is_cleared() {
        let mut log = Memory::new("e".into(), false);
        (0..2).for_each(|_| drop(log.append(publication(""), MANY)));
        log.clear();
        assert!(log.holds_after(2) && !log.holds_after(1));
        assert_eq!(log.append(publication(""), MANY).publication().previous, 2);
    }
}
