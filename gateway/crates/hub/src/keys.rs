//! Keys of publications: the same key of the same identity in the same channel is published once.

use std::collections::{HashMap, VecDeque};

use crate::clock::Instant;

/// The keys of one channel, with the offsets that they got. Kept as long as publications are.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    offsets: HashMap<Box<str>, u64>,
    oldest: VecDeque<Box<str>>,
    newest_at: Option<Instant>,
}

impl Keys {
    /// The offset that a key got; keys are scoped by [`scoped`].
    pub(crate) fn get(&self, key: &str) -> Option<u64> {
        self.offsets.get(key).copied()
    }

    /// Remembers a key; drops the oldest beyond `bound`.
    pub(crate) fn insert(&mut self, key: &str, offset: u64, bound: usize, now: Instant) {
        if self.offsets.insert(key.into(), offset).is_none() {
            self.oldest.push_back(key.into());
        }
        self.newest_at = Some(now);
        while self.oldest.len() > bound.max(1) {
            self.oldest.pop_front().and_then(|key| self.offsets.remove(&key));
        }
    }

    pub(crate) fn newest_at(&self) -> Option<Instant> {
        self.newest_at
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A key within its identity. Anonymous sessions share no identity, so it is the session for them.
pub(crate) fn scoped(kind: &str, who: &str, key: &str) -> String {
    format!("{kind}\0{who}\0{key}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_no_identity_meets_another() {
        let (mut keys, now) = (Keys::default(), Instant::now());
        for (offset, key) in ["a", "b", "c"].iter().enumerate() {
            keys.insert(&scoped("user", "ann", key), offset as u64, 2, now);
        }
        assert_eq!(keys.get(&scoped("user", "ann", "a")), None);
        assert_eq!(keys.get(&scoped("user", "ann", "c")), Some(2));
        assert_eq!(keys.get(&scoped("user", "bob", "c")), None);
    }
}
