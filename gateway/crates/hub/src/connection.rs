//! What the hub knows of one connection: its queue, and the session that it carries.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::bucket::Bucket;
use crate::clock::Instant;
use crate::codec::{self, Body};
use crate::lock::lock;
use crate::outbox::{Offered, Piece, Place, Queue};
use crate::proto::{Actor, Command, Payload, server_message};
use crate::shared::Shared;
use crate::stats::Counters;
use crate::{Closing, Identity, Wire, channel, reply};

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) wire: Wire,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) state: Mutex<State>,
    /// When it last said something and was last written to, in tenths of a second since the hub's start.
    pub(crate) heard: AtomicU32,
    pub(crate) sent: AtomicU32,
    /// When the last heartbeat was.
    pub(crate) beaten: AtomicU32,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Connect has not come.
    New,
    /// It came and is not answered yet.
    Connecting,
    /// The session is open.
    Open,
    /// The transport is gone.
    Ended,
}

/// A subscription of a session, or one that is asked for.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) channel: Arc<str>,
    pub(crate) read_only: bool,
    pub(crate) member: Option<Payload>,
    /// The application has not answered yet: the ask.
    pub(crate) pending: Option<u64>,
}

/// What changes with commands.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) identity: Identity,
    pub(crate) session: Arc<str>,
    pub(crate) member: Option<Payload>,
    pub(crate) subscriptions: Vec<Subscription>,
    /// Commands that came before connect was answered.
    pub(crate) waiting: VecDeque<(Command, String)>,
    pub(crate) in_flight: usize,
    /// Asks that nobody else waits for: withdrawn when the transport is gone.
    pub(crate) asks: Vec<u64>,
    pub(crate) commands: Bucket,
    /// Publications, by namespace.
    pub(crate) rates: Vec<(Arc<str>, Bucket)>,
    /// When the ticket is renewed. None: it has none.
    pub(crate) renew_at: Option<Instant>,
    /// Subscriptions changed since the last ticket.
    pub(crate) ticket_stale: bool,
    /// It leaves its channels at once when it ends: it was revoked, or said so.
    pub(crate) leave: bool,
}

impl Connection {
    pub(crate) fn new(id: u64, identity: Identity, wire: Wire, commands: Bucket, tenths: u32) -> Self {
        let state = State {
            phase: Phase::New,
            identity,
            session: "".into(),
            member: None,
            subscriptions: vec![],
            waiting: VecDeque::new(),
            in_flight: 0,
            asks: vec![],
            commands,
            rates: vec![],
            renew_at: None,
            ticket_stale: false,
            leave: false,
        };
        let [heard, sent, beaten] = [tenths; 3].map(AtomicU32::new);
        Self { id, wire, queue: Mutex::default(), state: Mutex::new(state), heard, sent, beaten }
    }

    pub(crate) fn offer(&self, piece: Piece, limit: usize) -> Offered {
        lock(&self.queue).offer(piece, limit)
    }

    /// Bytes of publications that a reply may hold: at most `most`, and well within what the queue has room for. Small ones
    /// are five times as large in JSON as in protobuf, by which they are counted.
    pub(crate) fn room(&self, most: usize, limit: usize) -> usize {
        most.min(limit.saturating_sub(lock(&self.queue).bytes()) / 8)
    }

    pub(crate) fn refill(&self, channel: Arc<str>) {
        lock(&self.queue).refill(channel);
    }

    /// Writes a message for this connection alone. One that does not fit ends it.
    pub(crate) fn write(&self, shared: &Shared, body: &Body, place: Option<Place>) {
        let place = place.filter(|_| self.wire == Wire::EventStream).map(Arc::new);
        let piece = Piece { bytes: codec::write(self.wire, body), place };
        if self.offer(piece, shared.settings().outbox_bytes) == Offered::Full {
            self.close(channel::slow(), &shared.counters);
        }
    }

    pub(crate) fn push(&self, shared: &Shared, kind: server_message::Kind, place: Option<Place>) {
        self.write(shared, &Body::Message(&reply::push(kind)), place);
    }

    /// Ends the connection: `closing` is the last that is written, and what waits goes before it, unless nobody reads.
    pub(crate) fn close(&self, closing: Closing, counters: &Counters) {
        let message = reply::push(server_message::Kind::Closing(closing.to_proto()));
        let last = codec::write(self.wire, &Body::Message(&message));
        let (code, stuck) = (closing.code, closing.code == crate::proto::CloseCode::Slow);
        if lock(&self.queue).close(closing, last, stuck) {
            counters.closed(code);
        }
    }

    pub(crate) fn closing(&self) -> Option<Closing> {
        lock(&self.queue).closing().cloned()
    }

    /// A command is done: its ticket follows where its session's grants changed and nothing else is under way.
    pub(crate) fn finish(&self, shared: &Shared) {
        let mut state = lock(&self.state);
        state.in_flight = state.in_flight.saturating_sub(1);
        if state.in_flight == 0 && state.ticket_stale && state.phase == Phase::Open {
            self.renew(&mut state, shared);
        }
    }

    /// Pushes a new ticket.
    pub(crate) fn renew(&self, state: &mut State, shared: &Shared) {
        let ticket = shared.ticket(state);
        let place = Some(Place::Ticket(ticket.ticket.clone()));
        self.push(shared, server_message::Kind::Ticket(ticket), place);
    }

    pub(crate) fn silent_since(&self) -> (u32, u32) {
        (self.heard.load(Relaxed), self.sent.load(Relaxed))
    }
}

impl State {
    pub(crate) fn actor(&self) -> Actor {
        actor(&self.identity, &self.session)
    }

    pub(crate) fn subscription(&self, channel: &str) -> Option<&Subscription> {
        self.subscriptions.iter().find(|subscription| &*subscription.channel == channel)
    }

    /// Whether it is subscribed, not only about to be.
    pub(crate) fn is_subscribed(&self, channel: &str) -> bool {
        self.subscription(channel).is_some_and(|subscription| subscription.pending.is_none())
    }

    pub(crate) fn remove(&mut self, channel: &str) -> Option<Subscription> {
        let index = self.subscriptions.iter().position(|subscription| &*subscription.channel == channel)?;
        self.ticket_stale = true;
        Some(self.subscriptions.swap_remove(index))
    }
}

/// Whose doing something is, for the application.
pub(crate) fn actor(identity: &Identity, session: &str) -> Actor {
    Actor {
        session: session.into(),
        subject: identity.subject.clone(),
        kind: identity.kind.as_str().into(),
        scope: identity.scope.clone(),
    }
}
