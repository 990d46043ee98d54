//! What is published and not delivered yet, and whose turn it is. A busy channel's subscribers are in parts that are
//! handed what came one after the other: where all were written at once, a publication would wait for the next flush,
//! and then for the writes of everybody before it.

use std::time::Duration;

use crate::clock::Instant;
use crate::log::Entry;

/// From so many subscribers on they are in parts.
const MANY: usize = 250;
/// How many parts.
const PARTS: usize = 8;

/// What waits for each part.
#[derive(Debug)]
pub(super) struct Batch {
    /// The oldest is one that some part was not handed yet.
    entries: Vec<Entry>,
    bytes: usize,
    /// How many were handed to all parts, ever.
    before: u64,
    parts: Vec<Part>,
    /// What the parts' turns are counted from.
    origin: Option<Instant>,
}

/// Some of the subscribers: those whose number has this part's remainder.
#[derive(Clone, Debug, Default)]
struct Part {
    /// How many it was handed, ever.
    given: u64,
    /// The offset of the newest of these.
    offset: u64,
    /// Not before this time again.
    next: Option<Instant>,
}

/// What one flush hands out.
#[derive(Debug)]
pub(super) struct Turn {
    /// What every part misses that waits for something, oldest first.
    pub(super) entries: Vec<Entry>,
    /// For each part whose turn it is: where in `entries` it begins, and the offset that it had.
    parts: Vec<Option<(usize, u64)>>,
}

impl Turn {
    /// Where in `entries` a subscriber begins, and the offset that it had. None: it is not its turn.
    pub(super) fn of(&self, id: u64) -> Option<(usize, u64)> {
        self.parts[part(id, self.parts.len())]
    }
}

fn part(id: u64, parts: usize) -> usize {
    (id % parts as u64) as usize
}

impl Default for Batch {
    fn default() -> Self {
        Self { entries: vec![], bytes: 0, before: 0, parts: vec![Part::default()], origin: None }
    }
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.protobuf().len();
        self.entries.push(entry);
    }

    /// The offset of the newest publication that a subscriber was handed.
    pub(super) fn offset(&self, id: u64) -> u64 {
        self.parts[part(id, self.parts.len())].offset
    }

    /// Takes what is to be handed out now: to everybody, or to the parts whose turn it is. In each `period` everybody
    /// has one turn: the parts' are spread over what of it is beyond `together`.
    pub(super) fn take(
        &mut self,
        now: Instant,
        (together, period): (Duration, Duration),
        everybody: bool,
    ) -> Option<Turn> {
        let (end, newest) = (self.before + self.entries.len() as u64, self.entries.last()?.offset());
        let due = |part: &Part| part.given < end && (everybody || part.next.is_none_or(|next| next <= now));
        if !self.parts.iter().any(due) {
            return None;
        }
        let origin = *self.origin.get_or_insert(now);
        let step = period.saturating_sub(together) / self.parts.len() as u32;
        let mut parts = vec![None; self.parts.len()];
        for (index, part) in self.parts.iter_mut().enumerate().filter(|(_, part)| due(part)) {
            parts[index] = Some(((part.given - self.before) as usize, part.offset));
            let next = next_turn(now - origin, period, step * index as u32);
            *part = Part { given: end, offset: newest, next: Some(origin + next) };
        }
        let entries = self.entries.clone();
        self.forget();
        Some(Turn { entries, parts })
    }

    /// Drops what every part was handed.
    fn forget(&mut self) {
        let least = self.parts.iter().map(|part| part.given).min().unwrap_or(self.before);
        let handed = self.entries.drain(..(least - self.before) as usize);
        self.bytes -= handed.map(|entry| entry.protobuf().len()).sum::<usize>();
        self.before = least;
    }

    /// So many subscribers are there now. Once they are many they stay in parts.
    pub(super) fn grow(&mut self, subscribers: usize) {
        if subscribers >= MANY && self.parts.len() < PARTS {
            // All were in one part: each has what that was handed.
            self.parts = vec![self.parts[0].clone(); PARTS];
        }
    }
}

/// The first time after `since` that is `phase` more than a whole number of periods.
fn next_turn(since: Duration, period: Duration, phase: Duration) -> Duration {
    let (since, period, phase) = (since.as_nanos(), period.as_nanos(), phase.as_nanos());
    let next = match period {
        0 => since,
        period => phase + (since + period - phase) / period * period,
    };
    Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Publication;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn entry(offset: u64) -> Entry {
        Entry::new(&Publication { offset, ..Publication::default() })
    }

    fn offsets(turn: &Turn, id: u64) -> Vec<u64> {
        let from = turn.of(id).map_or(turn.entries.len(), |(from, _)| from);
        turn.entries[from..].iter().map(Entry::offset).collect()
    }

    #[test]
    fn the_next_turn_is_the_first_one_after_now() {
        for (since, phase, next) in [(0, 0, 10), (0, 3, 3), (3, 3, 13), (12, 3, 13), (13, 9, 19), (29, 0, 30)]
        {
            assert_eq!(next_turn(ms(since), ms(10), ms(phase)), ms(next), "{since} {phase}");
        }
        assert_eq!(next_turn(ms(7), Duration::ZERO, Duration::ZERO), ms(7));
    }

    /// Whatever comes when: everybody is handed everything once, in order, and nothing waits longer than a period.
    #[test]
    fn every_part_is_handed_everything_once_and_in_time() {
        let (mut batch, start) = (Batch::default(), Instant::now());
        let (pace, mut got) = ((ms(2), ms(16)), vec![Vec::new(); PARTS]);
        for at in 0..400_u64 {
            if at == 100 {
                batch.grow(MANY);
            }
            // Busy for a while, then now and then.
            if at < 200 || at % 30 == 0 {
                batch.push(entry(at + 1));
            }
            let turn = batch.take(start + ms(at), pace, at % 97 == 0);
            for (id, got) in (0..).zip(&mut got) {
                if let Some(turn) = &turn {
                    let before = batch.offset(id);
                    let new = offsets(turn, id);
                    assert!(new.is_empty() || new.last() == Some(&before), "{new:?} {before}");
                    assert!(new.iter().all(|offset| at + 1 - offset < 16), "{new:?} at {at}");
                    got.extend(new);
                }
            }
        }
        for step in 400..416 {
            let turn = batch.take(start + ms(step), pace, false);
            turn.iter()
                .for_each(|turn| (0..).zip(&mut got).for_each(|(id, got)| got.extend(offsets(turn, id))));
        }
        let all: Vec<u64> = (0..400).filter(|at| *at < 200 || at % 30 == 0).map(|at| at + 1).collect();
        got.iter().for_each(|got| assert_eq!(*got, all));
        assert!(batch.is_empty() && batch.bytes() == 0);
    }

    /// While it is busy, a step of the period is one part's turn.
    #[test]
    fn parts_of_a_busy_channel_take_turns() {
        let (mut batch, start) = (Batch::default(), Instant::now());
        batch.grow(MANY);
        let mut turns = [0; PARTS];
        for at in 0..160 {
            batch.push(entry(at + 1));
            let turn = batch.take(start + ms(at), (Duration::ZERO, ms(16)), false);
            let handed: Vec<usize> = (0..PARTS)
                .filter(|id| turn.as_ref().is_some_and(|turn| turn.of(*id as u64).is_some()))
                .collect();
            assert!(at == 0 || handed.len() <= 1, "{handed:?} at {at}");
            handed.iter().for_each(|part| turns[*part] += 1);
        }
        assert!(turns.iter().all(|turns| (10..=11).contains(turns)), "{turns:?}");
    }
}
