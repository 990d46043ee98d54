//! The whole: what connections, applications and plain requests reach.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::commands::{self, Caller};
use crate::lock::lock;
use crate::proto::{AttachResponse, ErrorCode, command, server_message};
use crate::reply::{self, Reply};
use crate::shared::Shared;
use crate::{Authenticate, Client, Closing, Identity, Link, Outbox, Settings, Stats, Wire, timers};

/// All channels, sessions and links of a gateway. Clones are the same hub.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Shared>);

impl Hub {
    /// A hub whose tickets are signed by a key derived from `ticket_key`: gateways with the same key resume each other's
    /// sessions. Starts its timers: call it inside a runtime. They end with the last clone.
    pub fn new(settings: Settings, ticket_key: &[u8], authenticate: Arc<dyn Authenticate>) -> Self {
        let shared = Arc::new(Shared::new(settings, ticket_key, authenticate));
        timers::start(&shared);
        Self(shared)
    }

    /// A reload: these limits count from now on.
    pub fn configure(&self, settings: Settings) {
        self.0.configure(settings);
    }

    /// A transport connected; `identity` is that of its handshake. An error: there are too many, or the hub drains.
    pub fn open(&self, identity: Identity, wire: Wire) -> Result<(Client, Outbox), Closing> {
        Client::open(&self.0, identity, wire)
    }

    /// An application attached; `service` is its verified name. The receiver ends when the hub ends the link.
    pub fn attach(&self, service: &str) -> (Link, mpsc::Receiver<AttachResponse>) {
        Link::attach(&self.0, service)
    }

    /// One publish, call or history query of a caller without a session; the answer may be `Kind::Error`. Dropped: what was
    /// asked is withdrawn, but for publications.
    pub async fn once(
        &self,
        identity: Identity,
        command: command::Kind,
        traceparent: &str,
    ) -> server_message::Kind {
        let (sender, receiver) = oneshot::channel();
        let withdraw = Withdraw { shared: Arc::downgrade(&self.0), ask: self.0.id() };
        let caller = Caller::once(identity, Reply::Once(sender), traceparent, withdraw.ask);
        commands::run(&self.0, caller, command);
        let lost = || server_message::Kind::Error(reply::error(ErrorCode::Internal, "the command was lost"));
        receiver.await.unwrap_or_else(|_| lost())
    }

    /// Refuses new connections, and tells the open ones to reconnect, spread over `within`.
    pub fn drain(&self, within: Duration) {
        if !self.0.draining.swap(true, Relaxed) {
            let task = tokio::spawn(timers::drain(Arc::downgrade(&self.0), within));
            lock(&self.0.tasks).push(task.abort_handle());
        }
    }

    /// Where the hub stands. Looks at every channel: not for every request.
    pub fn stats(&self) -> Stats {
        let (channels, subscriptions, log_entries, log_bytes) = self.0.channels.sizes();
        let (in_flight, waiting, links) = self.0.desk.sizes();
        Stats {
            connections: self.0.open.load(Relaxed) as u64,
            sessions: lock(&self.0.sessions).len() as u64,
            subscriptions: subscriptions as u64,
            channels: channels as u64,
            links: links as u64,
            asks_in_flight: in_flight as u64,
            asks_waiting: waiting as u64,
            events_waiting: self.0.desk.events_waiting() as u64,
            log_entries: log_entries as u64,
            log_bytes: log_bytes as u64,
            ..self.0.counters.read()
        }
    }
}

/// Withdraws a plain request's ask when nobody waits for it any more.
struct Withdraw {
    shared: Weak<Shared>,
    ask: u64,
}

impl Drop for Withdraw {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.desk.withdraw(&[self.ask], &shared.counters);
        }
    }
}
