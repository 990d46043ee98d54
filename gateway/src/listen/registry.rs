//! The open connections of a listener. One sweeper looks at all of them every second, so that no connection needs a
//! timer of its own, and none pays for one with each request.

use crate::edge::connection::{Connection, Shared};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Open connections by number.
#[derive(Default)]
pub(crate) struct Registry {
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    next: AtomicU64,
    pub(super) shared: Arc<Shared>,
}

impl Registry {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists a connection until the entry is dropped.
    pub(super) fn enter(self: &Arc<Self>, connection: Arc<Connection>) -> Entry {
        let id = self.next.fetch_add(1, Relaxed);
        connection.metrics.connections[connection.listener as usize].fetch_add(1, Relaxed);
        self.lock().insert(id, connection);
        Entry { registry: Arc::clone(self), id }
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Wakes all, so that they see a drain.
    pub(crate) fn wake(&self) {
        self.lock().values().for_each(|connection| connection.wake());
    }

    /// Ends all, whatever they do.
    pub(crate) fn close(&self) {
        for connection in self.lock().values() {
            connection.close.store(true, Relaxed);
            connection.wake();
        }
    }

    /// Moves the listener's clock by a second and ends what has waited too long: more than `head` seconds for a first
    /// request, `keep_alive` for a further one.
    pub(crate) fn tick(&self, head: u32, keep_alive: u32) {
        let now = self.shared.clock.fetch_add(1, Relaxed) + 1;
        for connection in self.lock().values().filter(|c| c.overdue(now, head, keep_alive)) {
            connection.close.store(true, Relaxed);
            connection.wake();
        }
    }

    /// Ticks every second; `bounds` gives what `tick` takes.
    pub(crate) async fn sweep(self: Arc<Self>, bounds: impl Fn() -> (u32, u32)) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            let (head, keep_alive) = bounds();
            self.tick(head, keep_alive);
        }
    }
}

/// A connection's place in the list.
pub(super) struct Entry {
    registry: Arc<Registry>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(connection) = self.registry.lock().remove(&self.id) {
            connection.metrics.connections[connection.listener as usize].fetch_sub(1, Relaxed);
        }
    }
}
