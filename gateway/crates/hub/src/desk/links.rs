//! Links come and go.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Desk, Done, Inner, LinkState, Target};
use crate::clock::jitter;
use crate::proto::{AttachResponse, ErrorCode, attach_response};
use crate::stats::{AskOutcome, Counters};
use crate::{Settings, reply};

/// What a link serves.
#[derive(Debug)]
pub(crate) struct Serves {
    pub(crate) namespaces: HashSet<Arc<str>>,
    pub(crate) methods: Vec<String>,
    pub(crate) connects: bool,
}

impl Serves {
    pub(super) fn target(&self, target: &Target) -> bool {
        target.is_in(self)
    }
}

impl Desk {
    /// A link came. It is asked nothing before its hello.
    pub(crate) fn attach(&self, id: u64, service: &str, sender: mpsc::Sender<AttachResponse>) {
        let asks = HashSet::new();
        let link = LinkState { id, service: service.into(), sender, asks, serves: None, leaving: false };
        self.lock().links.push(link);
    }

    /// Its hello came: what waited for it is asked, and events that nobody has dealt with are told.
    pub(crate) fn hello(&self, id: u64, serves: Serves, settings: &Settings) {
        let mut inner = self.lock();
        let Some(link) = inner.links.iter_mut().find(|link| link.id == id) else { return };
        link.serves = Some(serves);
        inner.pump(usize::MAX, settings);
        inner.send_all_events();
    }

    /// Whether another service serves a namespace at this moment.
    pub(crate) fn is_served_by_another(&self, service: &str, namespace: &str) -> bool {
        let serves =
            |link: &LinkState| link.serves.as_ref().is_some_and(|s| s.namespaces.contains(namespace));
        self.lock().links.iter().any(|link| link.service != service && serves(link))
    }

    pub(crate) fn is_anybody_there(&self) -> bool {
        self.lock().links.iter().any(|link| link.serves.is_some() && !link.leaving)
    }

    /// Sends a link what it waits for. False: it does not read.
    pub(crate) fn tell(&self, id: u64, kind: attach_response::Kind) -> bool {
        let inner = self.lock();
        let link = inner.links.iter().find(|link| link.id == id);
        link.is_none_or(|link| link.sender.try_send(AttachResponse { kind: Some(kind) }).is_ok())
    }

    /// A link asks for no more.
    pub(crate) fn leaving(&self, id: u64) {
        let mut inner = self.lock();
        inner.links.iter_mut().filter(|link| link.id == id).for_each(|link| link.leaving = true);
        inner.hand_over_events(id);
        inner.part(id);
        inner.send_all_events();
    }

    /// Whether a link is still there.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.lock().links.iter().any(|link| link.id == id)
    }

    /// A link is gone. Its asks go on where that is safe; what is returned is over.
    pub(crate) fn detach(&self, id: u64, settings: &Settings, counters: &Counters) -> Vec<Done> {
        let mut inner = self.lock();
        inner.hand_over_events(id);
        let Some(index) = inner.links.iter().position(|link| link.id == id) else { return vec![] };
        let link = inner.links.remove(index);
        inner.turn = 0;
        let mut done = vec![];
        for ask in link.asks {
            let Some(pending) = inner.pending.get_mut(&ask) else { continue };
            pending.link = None;
            if pending.ask.safe {
                pending.again = true;
                if inner.place(ask, settings.asks_per_link) {
                    continue;
                }
                if inner.waiting.len() < settings.asks_waiting {
                    inner.waiting.push_back(ask);
                    continue;
                }
            }
            let message = "the application went away; whether it did what was asked is not known";
            let error = reply::later(ErrorCode::Unavailable, message, 500 + jitter(1_000));
            done.extend(inner.end(ask, AskOutcome::Unavailable, counters).map(|then| (then, Err(error))));
        }
        inner.send_all_events();
        done
    }
}

impl Inner {
    /// Ends a link that leaves once everything is answered: its stream ends with its sender.
    pub(super) fn part(&mut self, id: u64) {
        self.links.retain(|link| link.id != id || !link.leaving || !link.asks.is_empty());
    }
}
