//! A client's connection as its requests see it, and what is finished when one of them is over.

use super::{
    access_log::Line,
    context::Listener,
    headers::Forwarded,
    metrics::{Metrics, RouteMetrics},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    task::Waker,
};

/// What all connections of a listener share.
#[derive(Default)]
pub struct Shared {
    /// Requests whose response has not ended.
    pub requests: AtomicUsize,
    /// Seconds since the listener's start, moved by its sweeper: time stamps without a clock read.
    pub clock: AtomicU32,
}

/// One connection.
pub struct Connection {
    /// Where it came in.
    pub listener: Listener,
    /// The other end.
    pub client: SocketAddr,
    /// Renders the forwarding headers.
    pub forwarded: Forwarded,
    /// The gateway's metrics.
    pub metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    active: AtomicU32,
    /// When the last request began or ended; `NEVER` before the first.
    last: AtomicU32,
    opened: u32,
    /// Set to end the connection at its next poll; `waker` brings that about.
    pub(crate) close: AtomicBool,
    pub(crate) waker: OnceLock<Waker>,
}

const NEVER: u32 = u32::MAX;

impl Connection {
    /// A connection that was just accepted.
    pub fn new(listener: Listener, client: SocketAddr, shared: Arc<Shared>, metrics: Arc<Metrics>) -> Self {
        Self {
            listener,
            client,
            forwarded: Forwarded::new(client.ip()),
            metrics,
            opened: shared.clock.load(Relaxed),
            shared,
            active: AtomicU32::new(0),
            last: AtomicU32::new(NEVER),
            close: AtomicBool::new(false),
            waker: OnceLock::new(),
        }
    }

    /// A request begins; it ends with the `Finish`.
    pub fn begin(self: &Arc<Self>) -> Finish {
        self.active.fetch_add(1, Relaxed);
        self.shared.requests.fetch_add(1, Relaxed);
        self.last.store(self.shared.clock.load(Relaxed), Relaxed);
        Finish { connection: Arc::clone(self), route: None, bytes: 0, line: None }
    }

    /// Something other than a request uses the connection, until the `Hold` is dropped.
    pub fn hold(self: &Arc<Self>) -> Hold {
        self.active.fetch_add(1, Relaxed);
        Hold(Arc::clone(self))
    }

    fn release(&self) {
        self.active.fetch_sub(1, Relaxed);
        self.last.store(self.shared.clock.load(Relaxed), Relaxed);
    }

    /// Whether more than `limit` requests are in flight on the listener.
    pub fn over_limit(&self, limit: usize) -> bool {
        self.shared.requests.load(Relaxed) > limit
    }

    /// Whether it has waited for a request longer than it may: `head` seconds for the first, `keep_alive` for others.
    pub fn overdue(&self, now: u32, head: u32, keep_alive: u32) -> bool {
        match (self.active.load(Relaxed), self.last.load(Relaxed)) {
            (0, NEVER) => now.saturating_sub(self.opened) > head,
            (0, last) => now.saturating_sub(last) > keep_alive,
            _ => false,
        }
    }

    /// Wakes the connection's task, which then looks at `close` and the drain.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

/// A use of the connection that is no request: it keeps the connection from being overdue.
pub struct Hold(Arc<Connection>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Counts and logs a request when its response is over, however it ends.
pub struct Finish {
    connection: Arc<Connection>,
    route: Option<Arc<RouteMetrics>>,
    pub(super) bytes: u64,
    line: Option<Box<Line>>,
}

impl Finish {
    /// Says whose request it is.
    pub fn attribute(&mut self, route: &Arc<RouteMetrics>) {
        route.begin();
        if let Some(before) = self.route.replace(Arc::clone(route)) {
            before.end(0);
        }
    }

    /// The route's name.
    pub fn route(&self) -> &str {
        self.route.as_ref().map_or("none", |route| route.name())
    }

    /// The response's head is known.
    pub fn head(&mut self, status: u16, micros: u32, line: Option<Box<Line>>) {
        if let Some(route) = &self.route {
            route.head(status, micros);
        }
        self.line = line;
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.release();
        connection.shared.requests.fetch_sub(1, Relaxed);
        if let Some(route) = &self.route {
            route.end(self.bytes);
        }
        if let Some(line) = self.line.take() {
            line.write(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_connections_become_overdue_and_serving_ones_do_not() {
        let shared = Arc::new(Shared::default());
        let client = SocketAddr::from(([127, 0, 0, 1], 1));
        let connection =
            Arc::new(Connection::new(Listener::Public, client, Arc::clone(&shared), Arc::default()));
        assert!(!connection.overdue(10, 10, 75) && connection.overdue(11, 10, 75));
        let request = connection.begin();
        assert!(!connection.overdue(1000, 10, 75) && connection.over_limit(0));
        shared.clock.store(100, Relaxed);
        drop(request);
        assert!(!connection.overdue(175, 10, 75) && connection.overdue(176, 10, 75));
        assert!(!connection.over_limit(0));
    }
}
