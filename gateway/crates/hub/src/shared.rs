//! What all parts of one hub share.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::channel::Context;
use crate::channels::Channels;
use crate::clock::{Instant, millis, unix_ms};
use crate::connection::{Connection, State};
use crate::desk::{Ask, Desk, Done};
use crate::lock::lock;
use crate::namespace::{Known, Namespace};
use crate::proto::Ticket;
use crate::revoked::Revoked;
use crate::stats::Counters;
use crate::ticket::{Claims, Grant, Tickets};
use crate::{Authenticate, Settings};

/// Connections are looked after in so many groups, one at each tick.
pub(crate) const GROUPS: usize = 20;

pub(crate) struct Shared {
    settings: RwLock<Arc<Settings>>,
    pub(crate) authenticate: Arc<dyn Authenticate>,
    pub(crate) tickets: Tickets,
    pub(crate) revoked: Mutex<Revoked>,
    pub(crate) channels: Channels,
    pub(crate) desk: Desk,
    pub(crate) known: RwLock<Known>,
    pub(crate) connections: Vec<Mutex<HashMap<u64, Arc<Connection>>>>,
    pub(crate) open: AtomicUsize,
    /// Open sessions, by name.
    pub(crate) sessions: Mutex<HashMap<Arc<str>, Arc<Connection>>>,
    pub(crate) counters: Counters,
    pub(crate) draining: AtomicBool,
    pub(crate) tasks: Mutex<Vec<AbortHandle>>,
    start: Instant,
    ids: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        lock(&self.tasks).iter().for_each(AbortHandle::abort);
    }
}

impl Shared {
    pub(crate) fn new(settings: Settings, ticket_key: &[u8], authenticate: Arc<dyn Authenticate>) -> Self {
        Self {
            settings: RwLock::new(Arc::new(settings)),
            authenticate,
            tickets: Tickets::new(ticket_key),
            revoked: Mutex::default(),
            channels: Channels::default(),
            desk: Desk::default(),
            known: RwLock::default(),
            connections: (0..GROUPS).map(|_| Mutex::default()).collect(),
            open: AtomicUsize::new(0),
            sessions: Mutex::default(),
            counters: Counters::default(),
            draining: AtomicBool::new(false),
            tasks: Mutex::default(),
            start: Instant::now(),
            ids: AtomicU64::new(0),
        }
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn configure(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    pub(crate) fn context<'a>(&'a self, settings: &'a Settings) -> Context<'a> {
        Context { settings, counters: &self.counters, now: Instant::now() }
    }

    /// A number that no other thing of this hub has.
    pub(crate) fn id(&self) -> u64 {
        self.ids.fetch_add(1, Relaxed) + 1
    }

    /// Tenths of a second since the start.
    pub(crate) fn tenths(&self) -> u32 {
        (self.start.elapsed().as_millis() / 100) as u32
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).namespaces.get(name).cloned()
    }

    /// Asks the application; what is done with the answer runs when it comes, also when it comes at once.
    pub(crate) fn ask(self: &Arc<Self>, ask: Ask) {
        let failed = self.desk.ask(ask, &self.settings(), &self.counters);
        self.done(failed);
    }

    /// Carries on what waited for answers. Holds no lock.
    pub(crate) fn done(self: &Arc<Self>, done: impl IntoIterator<Item = Done>) {
        done.into_iter().for_each(|(then, result)| then(self, result));
    }

    /// A ticket for what a session has now; when it is to be renewed is noted.
    pub(crate) fn ticket(&self, state: &mut State) -> Ticket {
        let now = unix_ms();
        let token_ends = state.identity.expires.unwrap_or(0);
        let mut ttl = self.settings().ticket_ttl.min(Duration::from_secs(300));
        if token_ends > 0 {
            ttl = ttl.min(Duration::from_millis(token_ends.saturating_mul(1000).saturating_sub(now)));
        }
        let granted = state.subscriptions.iter().filter(|subscription| subscription.pending.is_none());
        let grants = granted.map(|subscription| Grant {
            channel: subscription.channel.to_string(),
            read_only: subscription.read_only,
            member: subscription.member.clone(),
        });
        let claims = Claims {
            session: state.session.to_string(),
            subject: state.identity.subject.clone(),
            kind: state.identity.kind.as_str().into(),
            scope: state.identity.scope.clone(),
            token_ends,
            issued_ms: now,
            ends_ms: now + u64::from(millis(ttl)),
            member: state.member.clone(),
            grants: grants.collect(),
        };
        state.ticket_stale = false;
        state.renew_at = Some(Instant::now() + ttl.mul_f32(0.8).max(Duration::from_secs(1)));
        Ticket { ticket: self.tickets.sign(&claims), expires_in_ms: millis(ttl) }
    }
}
