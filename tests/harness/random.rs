//! A small seeded generator (SplitMix64), so that a failed run can be repeated from its printed seed.

use std::{ops::Range, time::SystemTime};

use anyhow::{Context, Result};

/// A sequence that its seed decides.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A sequence of its own, that this one decides.
    pub fn fork(&mut self) -> Self {
        Self(self.number())
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of `range`, which is not empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start)
    }

    /// A word of letters that no text holds by chance.
    pub fn word(&mut self) -> String {
        (0..12).map(|_| char::from(b'a' + self.within(0..26) as u8)).collect()
    }
}

/// A word that no other test uses.
pub fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    Random::seeded(clock() ^ NEXT.fetch_add(1 << 48, Ordering::Relaxed)).word()
}

/// The seed of this run: `BLACKBOX_SEED`, to repeat one, or a new one.
pub fn seed() -> Result<u64> {
    match std::env::var("BLACKBOX_SEED") {
        Ok(text) => text.parse().with_context(|| format!("BLACKBOX_SEED={text}: allowed is a whole number")),
        Err(_) => Ok(clock()),
    }
}

fn clock() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_sequence() {
        let (mut a, mut b) = (Random::seeded(7), Random::seeded(7));
        assert_eq!((a.number(), a.word(), a.within(3..5)), (b.number(), b.word(), b.within(3..5)));
    }

    #[test]
    fn unique_words_differ() {
        assert_ne!(unique(), unique());
    }
}
