//! Token buckets: so much per second, and a burst at once.

use std::time::Duration;

use crate::clock::Instant;

/// What is left, as of a moment. It may go below zero: what is refused counts too, so that a flood shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    tokens: f32,
    at: Instant,
}

/// What a bucket says to one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Within the rate.
    Pass,
    /// Over it; room again after this time.
    Later(Duration),
    /// Ten times over it.
    Flood,
}

impl Bucket {
    pub(crate) fn full(now: Instant, rate: u32, seconds: u32) -> Self {
        Self { tokens: (rate * seconds) as f32, at: now }
    }

    /// Takes one, at `rate` per second with a burst of `seconds`.
    pub(crate) fn take(&mut self, now: Instant, rate: u32, seconds: u32) -> Verdict {
        let (rate, size) = (rate.max(1) as f32, (rate.max(1) * seconds) as f32);
        self.tokens = (self.tokens + now.duration_since(self.at).as_secs_f32() * rate).min(size);
        self.at = now;
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            Verdict::Pass
        } else if self.tokens < -9.0 * size {
            Verdict::Flood
        } else {
            Verdict::Later(Duration::from_secs_f32((-self.tokens / rate).min(60.0)))
        }
    }

    /// The same, where what is refused costs nothing.
    pub(crate) fn take_or_leave(&mut self, now: Instant, rate: u32, seconds: u32) -> Verdict {
        let verdict = self.take(now, rate, seconds);
        if verdict != Verdict::Pass {
            self.tokens += 1.0;
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_and_ten_times_over_is_a_flood() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start, 10, 4);
        assert!((0..40).all(|_| bucket.take(start, 10, 4) == Verdict::Pass));
        assert_eq!(bucket.take(start, 10, 4), Verdict::Later(Duration::from_millis(100)));
        assert_eq!(bucket.take(start + Duration::from_millis(200), 10, 4), Verdict::Pass);
        let over = (0..400).map(|_| bucket.take(start, 10, 4)).filter(|v| *v == Verdict::Flood).count();
        assert!(over > 0);
    }

    #[test]
    fn what_is_refused_costs_nothing_where_it_is_left() {
        let start = Instant::now();
        let mut bucket = Bucket::full(start, 1, 1);
        assert_eq!(bucket.take_or_leave(start, 1, 1), Verdict::Pass);
        (0..100).for_each(|_| assert_ne!(bucket.take_or_leave(start, 1, 1), Verdict::Pass));
        assert_eq!(bucket.take_or_leave(start + Duration::from_secs(1), 1, 1), Verdict::Pass);
    }
}
