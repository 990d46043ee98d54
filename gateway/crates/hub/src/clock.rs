//! Time: what the hub's timers and buckets count by, and dates.

use std::time::Duration;

pub(crate) use tokio::time::Instant;

/// Milliseconds since the Unix epoch.
#[cfg(not(test))]
pub(crate) fn unix_ms() -> u64 {
    use std::time::SystemTime;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

/// The same under virtual time: an arbitrary date that goes on with it.
#[cfg(test)]
pub(crate) fn unix_ms() -> u64 {
    thread_local!(static START: Instant = Instant::now());
    1_700_000_000_000 + START.with(|start| start.elapsed().as_millis() as u64)
}

/// A duration in the form of the messages.
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Up to so many milliseconds, at random: spreads what would come at once.
pub(crate) fn jitter(max_ms: u32) -> u32 {
    getrandom::u32().unwrap_or(max_ms / 2) % max_ms.max(1)
}
