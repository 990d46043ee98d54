//! Ctrl-C, SIGTERM and SIGHUP: the first stops the stack in order, the second leaves the rest to the guard.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::stack::Stack;

/// Whether a signal has asked for the end.
#[derive(Clone, Default)]
pub(super) struct Ended(Arc<(Mutex<bool>, Condvar)>);

impl Ended {
    pub(super) fn is_set(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Waits for the signal.
    pub(super) fn wait(&self) {
        while !self.wait_for(Duration::from_secs(3600)) {}
    }

    /// Waits for the signal at most that long; says whether it came.
    pub(super) fn wait_for(&self, time: Duration) -> bool {
        let ended = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(ended, time, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Begins to listen, on a thread of its own.
pub(super) fn listen(stack: Arc<Stack>) -> Result<Ended> {
    let runtime = crate::token::runtime()?;
    let ended = Ended::default();
    let told = ended.clone();
    let (mut interrupt, mut terminate, mut hangup) = {
        let _context = runtime.enter();
        let open = |kind| signal(kind).context("cannot listen for signals");
        (open(SignalKind::interrupt())?, open(SignalKind::terminate())?, open(SignalKind::hangup())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async move {
            for count in 0.. {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                if count > 0 {
                    // The guard ends what is left as soon as this process is gone.
                    std::process::exit(130);
                }
                told.set();
                stack.interrupt();
            }
        });
    });
    Ok(ended)
}
