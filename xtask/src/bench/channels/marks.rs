//! What the benchmarks' messages hold, the same for every contestant: JSON of 256 bytes with a mark that says its number
//! and when it was asked for. A receiver looks for marks alone, so that receiving costs the same whoever sends.

use std::{
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

use memchr::memmem::Finder;

/// Bytes of a message.
pub const SIZE: usize = 256;
const SIGN: &[u8] = b"#S";
const NUMBER: usize = 10;
const TIME: usize = 16;

/// Microseconds since 1970: a clock that all processes of this machine share.
pub fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros() as u64)
}

/// Message `number`, asked for at `at` µs.
pub fn message(number: u64, at: u64) -> String {
    let mut text = format!("{{\"m\":\"#S{number:010}T{at:016}\",\"pad\":\"");
    let rest = SIZE - text.len() - 2;
    text.extend(std::iter::repeat_n('x', rest));
    text + "\"}"
}

/// Calls `on` with the number and the time of each mark in `bytes`; how many there were.
pub fn scan(bytes: &[u8], mut on: impl FnMut(u64, u64)) -> usize {
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(SIGN));
    let (mut rest, mut count) = (bytes, 0);
    while let Some(at) = FINDER.find(rest) {
        rest = &rest[at + SIGN.len()..];
        if rest.len() < NUMBER + 1 + TIME {
            break;
        }
        on(digits(&rest[..NUMBER]), digits(&rest[NUMBER + 1..NUMBER + 1 + TIME]));
        count += 1;
        // No mark is nearer than this.
        rest = rest.get(SIZE / 2..).unwrap_or_default();
    }
    count
}

fn digits(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number * 10 + u64::from(byte.wrapping_sub(b'0')))
}

/// Counts of durations, of which quantiles are asked: steps of 50 µs up to 20 s.
#[derive(Debug, Clone)]
pub struct Durations {
    counts: Vec<u32>,
    total: u64,
}

impl Default for Durations {
    fn default() -> Self {
        Self { counts: vec![0; 400_000], total: 0 }
    }
}

impl Durations {
    const STEP_US: u64 = 50;

    /// Adds a duration in µs; what is too long counts as the longest.
    pub fn add(&mut self, us: u64) {
        let last = self.counts.len() - 1;
        self.counts[((us / Self::STEP_US) as usize).min(last)] += 1;
        self.total += 1;
    }

    /// In milliseconds, rounded up to a step; 0 where nothing was counted.
    pub fn quantile_ms(&self, q: f64) -> f64 {
        let wanted = ((self.total as f64 * q).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return (index as u64 + 1) as f64 * Self::STEP_US as f64 / 1000.0;
            }
        }
        0.0
    }

    /// How many were added.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }
}

/// What one receiver got: in order, once, and without a gap, or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    /// The newest message's number; 0: none yet.
    pub newest: u64,
    /// Whether it was there from the beginning: then what comes before its first message is missing, too.
    pub from_start: bool,
    /// Messages that came when they should.
    pub delivered: u64,
    /// Messages that were skipped. One that comes later counts as a duplicate, too: out of order.
    pub missing: u64,
    /// Messages that had come, or been passed over, before.
    pub repeated: u64,
}

impl Tally {
    /// Counts message `number`.
    pub fn count(&mut self, number: u64) {
        if number <= self.newest {
            self.repeated += 1;
            return;
        }
        if self.from_start || self.newest > 0 {
            self.missing += number - self.newest - 1;
        }
        self.newest = number;
        self.delivered += 1;
    }

    /// Adds what another receiver got.
    pub fn merge(&mut self, other: &Self) {
        self.newest = self.newest.max(other.newest);
        self.delivered += other.delivered;
        self.missing += other.missing;
        self.repeated += other.repeated;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_in_a_batch() {
        let text = format!("[{},{}]", message(7, 99), message(8, 1_700_000_000_000_000));
        let mut found = Vec::new();
        assert_eq!(scan(text.as_bytes(), |number, at| found.push((number, at))), 2);
        assert_eq!(found, [(7, 99), (8, 1_700_000_000_000_000)]);
        assert_eq!(message(7, 99).len(), SIZE);
        assert!(serde_json::from_str::<serde_json::Value>(&message(1, 2)).is_ok());
    }

    #[test]
    fn gaps_and_repeats_are_told_apart() {
        let mut tally = Tally::default();
        [5, 6, 9, 9, 10].into_iter().for_each(|number| tally.count(number));
        assert_eq!((tally.newest, tally.delivered, tally.missing, tally.repeated), (10, 4, 2, 1));
        let mut tally = Tally { from_start: true, ..Tally::default() };
        tally.count(3);
        assert_eq!((tally.delivered, tally.missing), (1, 2));
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let mut durations = Durations::default();
        (0..1000).for_each(|us| durations.add(us * 100));
        assert!((durations.quantile_ms(0.5) - 50.0).abs() < 0.2, "{}", durations.quantile_ms(0.5));
        assert!((durations.quantile_ms(0.99) - 99.0).abs() < 0.2);
    }
}
