//! Locks that a panic elsewhere does not poison: what they guard is changed in steps that each leave it whole.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks.
///
/// Order, where several are held: a connection's state, the sessions, a shard of channels, a connection's queue. The desk's
/// lock is held alone, and what waits for answers runs without any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
