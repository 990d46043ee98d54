//! What the application is asked, and by which link. An ask goes to one link after another that serves it; while none is
//! there it waits, bounded. When a link ends, its asks go to another where asking twice is safe, and fail elsewhere.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::mpsc;

use crate::clock::{Instant, jitter, millis};
use crate::lock::lock;
use crate::namespace::serves;
use crate::proto::{self, Actor, AttachResponse, ErrorCode, Withdraw, answer, ask, attach_response};
use crate::shared::Shared;
use crate::stats::{AskKind, AskOutcome, Counters};
use crate::{Settings, reply};

mod events;
mod links;
pub(crate) use links::Serves;

/// What is done with an answer. It runs without the desk's lock.
pub(crate) type Then = Box<dyn FnOnce(&Arc<Shared>, Result<answer::Kind, proto::Error>) + Send>;

/// An ask that is over, and how.
pub(crate) type Done = (Then, Result<answer::Kind, proto::Error>);

/// Who may be asked.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Whoever is asked about connects.
    Connects,
    /// Whoever serves a namespace.
    Namespace(Arc<str>),
    /// Whoever serves a method.
    Method(String),
}

/// A decision that is needed.
pub(crate) struct Ask {
    pub(crate) id: u64,
    pub(crate) target: Target,
    pub(crate) kind: ask::Kind,
    pub(crate) actor: Actor,
    pub(crate) traceparent: String,
    /// Whether asking twice is safe.
    pub(crate) safe: bool,
    pub(crate) then: Then,
}

struct Pending {
    ask: Ask,
    deadline: Instant,
    again: bool,
    link: Option<u64>,
}

struct LinkState {
    id: u64,
    service: String,
    sender: mpsc::Sender<AttachResponse>,
    asks: HashSet<u64>,
    serves: Option<Serves>,
    leaving: bool,
}

/// All asks and links.
#[derive(Default)]
pub(crate) struct Desk(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    pending: HashMap<u64, Pending>,
    waiting: VecDeque<u64>,
    deadlines: VecDeque<(Instant, u64)>,
    links: Vec<LinkState>,
    turn: usize,
    events: HashMap<String, events::Events>,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }

    /// Asks. What is returned failed at once.
    pub(crate) fn ask(&self, ask: Ask, settings: &Settings, counters: &Counters) -> Option<Done> {
        let (id, deadline) = (ask.id, Instant::now() + settings.ask_timeout);
        let mut inner = self.lock();
        inner.pending.insert(id, Pending { ask, deadline, again: false, link: None });
        if !inner.place(id, settings.asks_per_link) {
            if inner.waiting.len() >= settings.asks_waiting {
                let away =
                    reply::later(ErrorCode::Unavailable, "the application is away", 500 + jitter(1_000));
                return inner.end(id, AskOutcome::Unavailable, counters).map(|then| (then, Err(away)));
            }
            inner.waiting.push_back(id);
        }
        inner.deadlines.push_back((deadline, id));
        None
    }

    /// Takes an answer. One that comes late or twice is ignored; an error: it is no answer to what was asked.
    pub(crate) fn answer(
        &self,
        link: u64,
        answer: proto::Answer,
        settings: &Settings,
        counters: &Counters,
    ) -> Result<Option<Done>, String> {
        let mut inner = self.lock();
        let Some(pending) = inner.pending.get(&answer.id).filter(|pending| pending.link == Some(link)) else {
            return Ok(None);
        };
        let (outcome, result) = match answer.kind {
            Some(answer::Kind::Error(mut error)) => {
                if error.code() == ErrorCode::Unspecified {
                    error.set_code(ErrorCode::Internal);
                }
                (AskOutcome::Refused, Err(error))
            }
            Some(kind) if fits(&pending.ask.kind, &kind) => (AskOutcome::Answered, Ok(kind)),
            _ => return Err(format!("answer {}: it is not of the kind that was asked for", answer.id)),
        };
        let then = inner.end(answer.id, outcome, counters);
        inner.part(link);
        inner.pump(16, settings);
        Ok(then.map(|then| (then, result)))
    }

    /// Nobody waits for these any more.
    pub(crate) fn withdraw(&self, ids: &[u64], counters: &Counters) {
        let mut inner = self.lock();
        for id in ids {
            let link = inner.pending.get(id).and_then(|pending| pending.link);
            if inner.end(*id, AskOutcome::Withdrawn, counters).is_some() {
                inner.tell(link, attach_response::Kind::Withdraw(Withdraw { id: *id }));
                link.into_iter().for_each(|link| inner.part(link));
            }
        }
    }

    /// Ends asks whose time is over.
    pub(crate) fn expire(&self, now: Instant, settings: &Settings, counters: &Counters) -> Vec<Done> {
        let mut inner = self.lock();
        let mut done = vec![];
        while let Some((_, id)) = inner.deadlines.front().copied().filter(|(deadline, _)| *deadline <= now) {
            inner.deadlines.pop_front();
            let Some(link) = inner.pending.get(&id).map(|pending| pending.link) else { continue };
            let (outcome, error) = match link {
                Some(_) => (
                    AskOutcome::TimedOut,
                    reply::later(
                        ErrorCode::DeadlineExceeded,
                        "the application took too long",
                        500 + jitter(1_000),
                    ),
                ),
                None => (
                    AskOutcome::Unavailable,
                    reply::later(ErrorCode::Unavailable, "the application is away", 500 + jitter(1_000)),
                ),
            };
            inner.tell(link, attach_response::Kind::Withdraw(Withdraw { id }));
            done.extend(inner.end(id, outcome, counters).map(|then| (then, Err(error))));
            link.into_iter().for_each(|link| inner.part(link));
        }
        // Room may have come in queues that were full.
        inner.pump(usize::MAX, settings);
        inner.send_all_events();
        done
    }

    /// Asks in flight, asks that wait, links.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        let inner = self.lock();
        (inner.pending.len(), inner.waiting.len(), inner.links.len())
    }
}

impl Inner {
    /// Hands an ask to the next link that serves it and has room.
    fn place(&mut self, id: u64, asks_per_link: usize) -> bool {
        let Some(pending) = self.pending.get_mut(&id) else { return true };
        let count = self.links.len();
        for step in 0..count {
            let index = (self.turn + step) % count;
            let link = &mut self.links[index];
            let fits = link.serves.as_ref().is_some_and(|serves| serves.target(&pending.ask.target));
            if !fits || link.leaving || link.asks.len() >= asks_per_link {
                continue;
            }
            let ask = proto::Ask {
                id,
                timeout_ms: millis(pending.deadline.duration_since(Instant::now())),
                actor: Some(pending.ask.actor.clone()),
                traceparent: pending.ask.traceparent.clone(),
                again: pending.again,
                kind: Some(pending.ask.kind.clone()),
            };
            if link.sender.try_send(AttachResponse { kind: Some(attach_response::Kind::Ask(ask)) }).is_ok() {
                link.asks.insert(id);
                pending.link = Some(link.id);
                self.turn = (index + 1) % count;
                return true;
            }
        }
        false
    }

    /// Places asks that wait, the oldest first, after looking at up to `tries` of them.
    fn pump(&mut self, tries: usize, settings: &Settings) {
        for _ in 0..self.waiting.len().min(tries) {
            let Some(id) = self.waiting.pop_front() else { break };
            if !self.place(id, settings.asks_per_link) {
                self.waiting.push_back(id);
            }
        }
    }

    fn end(&mut self, id: u64, outcome: AskOutcome, counters: &Counters) -> Option<Then> {
        let pending = self.pending.remove(&id)?;
        counters.asked(kind(&pending.ask.kind), outcome);
        match pending.link {
            Some(link) => self.links.iter_mut().filter(|state| state.id == link).for_each(|state| {
                state.asks.remove(&id);
            }),
            None => self.waiting.retain(|waiting| *waiting != id),
        }
        Some(pending.ask.then)
    }

    /// Tells a link something that it may miss.
    fn tell(&mut self, link: Option<u64>, kind: attach_response::Kind) {
        let state = self.links.iter().find(|state| Some(state.id) == link);
        state
            .into_iter()
            .for_each(|state| drop(state.sender.try_send(AttachResponse { kind: Some(kind.clone()) })));
    }
}

/// Whether an answer is of the kind that was asked for.
fn fits(ask: &ask::Kind, answer: &answer::Kind) -> bool {
    matches!(
        (ask, answer),
        (ask::Kind::Connect(_), answer::Kind::Connect(_))
            | (ask::Kind::Subscribe(_), answer::Kind::Subscribe(_))
            | (ask::Kind::Publish(_), answer::Kind::Publish(_))
            | (ask::Kind::Call(_), answer::Kind::Call(_))
    )
}

fn kind(ask: &ask::Kind) -> AskKind {
    match ask {
        ask::Kind::Connect(_) => AskKind::Connect,
        ask::Kind::Subscribe(_) => AskKind::Subscribe,
        ask::Kind::Publish(_) => AskKind::Publish,
        ask::Kind::Call(_) => AskKind::Call,
    }
}

impl Target {
    fn is_in(&self, serves: &Serves) -> bool {
        match self {
            Self::Connects => serves.connects,
            Self::Namespace(namespace) => serves.namespaces.contains(namespace),
            Self::Method(method) => serves.methods.iter().any(|prefix| self::serves(prefix, method)),
        }
    }
}
