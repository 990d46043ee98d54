//! What an open WebSocket's clock looks at: when it moved, when the client was heard, and when it has to end.

use super::{Limits, inbound::End, problems};
use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// A client that answers none of this many pings is gone.
const PINGS: u32 = 3;

/// Moments of a socket's life, as milliseconds since it began.
pub(super) struct Pulse {
    began: Instant,
    deadline: Instant,
    heartbeat: Duration,
    idle: Duration,
    /// A message went one way or the other.
    moved: AtomicU32,
    /// Any frame came from the client.
    heard: AtomicU32,
    /// The client is not listened to, because the upstream takes nothing.
    deaf: AtomicBool,
}

impl Pulse {
    pub(super) fn new(limits: &Limits, deadline: Instant) -> Self {
        Self {
            began: Instant::now(),
            deadline,
            heartbeat: limits.heartbeat,
            idle: limits.stream_idle,
            moved: AtomicU32::new(0),
            heard: AtomicU32::new(0),
            deaf: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_millis()).unwrap_or(u32::MAX)
    }

    pub(super) fn moved(&self) {
        self.moved.store(self.now(), Relaxed);
    }

    pub(super) fn heard(&self) {
        self.heard.store(self.now(), Relaxed);
    }

    pub(super) fn deaf(&self, deaf: bool) {
        self.deaf.store(deaf, Relaxed);
        if !deaf {
            self.heard();
        }
    }

    /// Until the socket has to end, and how.
    pub(super) async fn watch(&self) -> End {
        loop {
            if self.deaf.load(Relaxed) {
                self.heard();
            }
            let at = |moment: &AtomicU32| self.began + Duration::from_millis(moment.load(Relaxed).into());
            let idle = self.deadline.min(at(&self.moved) + self.idle);
            let gone = at(&self.heard) + self.heartbeat * PINGS;
            tokio::time::sleep_until(idle.min(gone).into()).await;
            let now = Instant::now();
            if now >= self.deadline || now >= at(&self.moved) + self.idle {
                return problems::timed_out().into();
            }
            if now >= at(&self.heard) + self.heartbeat * PINGS && !self.deaf.load(Relaxed) {
                return End::Left;
            }
        }
    }
}
