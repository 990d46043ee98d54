//! Remembers verified tokens until they end, so that a signature is checked once and not for every request.

use super::Caller;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

/// A bounded map from the token's full text (hash collisions must not mix callers) to its caller.
pub(super) struct TokenCache {
    limit: usize,
    entries: RwLock<HashMap<Box<str>, Entry>>,
}

struct Entry {
    caller: Arc<Caller>,
    until: Instant,
}

impl TokenCache {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, entries: RwLock::default() }
    }

    pub(super) fn get(&self, token: &str, now: Instant) -> Option<Arc<Caller>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(token).filter(|entry| now < entry.until).map(|entry| Arc::clone(&entry.caller))
    }

    /// When full: what has ended goes first, then an arbitrary half.
    pub(super) fn put(&self, token: &str, caller: Arc<Caller>, until: Instant, now: Instant) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.limit {
            entries.retain(|_, entry| now < entry.until);
        }
        if entries.len() >= self.limit {
            let mut odd = false;
            entries.retain(|_, _| {
                odd = !odd;
                odd && self.limit > 1
            });
        }
        entries.insert(token.into(), Entry { caller, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn entries_end_and_the_bound_holds() {
        let (cache, now) = (TokenCache::new(4), Instant::now());
        let caller = Arc::new(Caller::anonymous(0));
        cache.put("ended", Arc::clone(&caller), now, now);
        assert!(cache.get("ended", now).is_none());
        for i in 0..50 {
            cache.put(&format!("t{i}"), Arc::clone(&caller), now + Duration::from_secs(9), now);
            assert!(cache.entries.read().unwrap().len() <= 4);
            assert!(cache.get(&format!("t{i}"), now).is_some());
        }
    }
}
