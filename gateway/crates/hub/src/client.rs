//! The reading half of a connection: frames become commands, within the limits of a connection.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use crate::bucket::Verdict;
use crate::clock::{Instant, millis};
use crate::commands::{self, Caller};
use crate::connection::{Connection, Phase, Subscription};
use crate::lock::lock;
use crate::outbox::Outbox;
use crate::proto::{CloseCode, Command, ErrorCode, Resume, command, server_message};
use crate::reply::{self, Reply};
use crate::shared::{GROUPS, Shared};
use crate::{Closing, Identity, Wire, bucket::Bucket, codec, positions};

/// A connection: what it says goes in here. Dropped: the transport is gone.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
}

/// A burst of commands may last so many seconds.
const BURST_SECONDS: u32 = 4;

impl Client {
    pub(crate) fn open(
        shared: &Arc<Shared>,
        identity: Identity,
        wire: Wire,
    ) -> Result<(Self, Outbox), Closing> {
        let settings = shared.settings();
        if shared.draining.load(Relaxed) {
            return Err(Closing::new(CloseCode::Draining, "the gateway stops").after(commands::spread(1_000)));
        }
        if shared.open.fetch_add(1, Relaxed) >= settings.connections {
            shared.open.fetch_sub(1, Relaxed);
            let closing = Closing::new(CloseCode::Overloaded, "the gateway has too many connections");
            return Err(closing.after(commands::spread(5_000)));
        }
        shared.counters.opened.fetch_add(1, Relaxed);
        let bucket = Bucket::full(Instant::now(), settings.commands_per_second, BURST_SECONDS);
        let connection = Arc::new(Connection::new(shared.id(), identity, wire, bucket, shared.tenths()));
        lock(&shared.connections[connection.id as usize % GROUPS]).insert(connection.id, connection.clone());
        let outbox = Outbox::new(shared.clone(), connection.clone());
        Ok((Self { shared: shared.clone(), connection }, outbox))
    }

    /// Reads one WebSocket message's content and carries it out. Never blocks; replies go to the outbox. An error: the
    /// connection ends, and the outbox says so too.
    pub fn receive(&mut self, frame: &[u8], traceparent: &str) -> Result<(), Closing> {
        self.alive()?;
        let bound = self.shared.settings().frame_bytes;
        if frame.len() > bound {
            let message = format!("a frame of {} bytes; at most {bound} are allowed", frame.len());
            return self.end(Closing::new(CloseCode::BadFrame, message));
        }
        let frame = match codec::read(self.connection.wire, frame) {
            Ok(frame) => frame,
            Err(error) => return self.end(Closing::new(CloseCode::BadFrame, error)),
        };
        lock(&self.connection.state).in_flight += 1;
        let done = frame.commands.into_iter().try_for_each(|command| self.one(command, traceparent, 1));
        self.connection.finish(&self.shared);
        done
    }

    /// Carries out one command, for transports without frames.
    pub fn command(&mut self, command: Command, traceparent: &str) -> Result<(), Closing> {
        self.alive()?;
        self.one(command, traceparent, 0)
    }

    /// Ends a connection whose client broke the rules of its transport, as one with a bad frame.
    pub fn break_off(&mut self, message: &str) -> Closing {
        let closing = Closing::new(CloseCode::BadFrame, message);
        self.end(closing.clone()).err().unwrap_or(closing)
    }

    /// The ticket and places that a `Last-Event-ID` made by [`Outbox::positions`] says. None: it is not one.
    pub fn resume(last_event_id: &str) -> Option<(String, Vec<Resume>)> {
        positions::parse(last_event_id)
    }

    fn alive(&self) -> Result<(), Closing> {
        self.connection.heard.store(self.shared.tenths(), Relaxed);
        self.connection.closing().map_or(Ok(()), Err)
    }

    fn end(&self, closing: Closing) -> Result<(), Closing> {
        self.connection.close(closing.clone(), &self.shared.counters);
        Err(self.connection.closing().unwrap_or(closing))
    }

    /// Counts a command against the limits, then carries it out, or has it wait for connect's answer.
    /// `in_frame`: one, where the frame itself is counted as in flight.
    fn one(&self, command: Command, traceparent: &str, in_frame: usize) -> Result<(), Closing> {
        let settings = self.shared.settings();
        let reply = Reply::Connection(self.connection.clone(), command.id);
        let mut state = lock(&self.connection.state);
        let verdict = state.commands.take(Instant::now(), settings.commands_per_second, BURST_SECONDS);
        let is_connect = matches!(command.kind, Some(command::Kind::Connect(_)));
        if state.phase == Phase::New && !is_connect {
            drop(state);
            return self.end(Closing::new(CloseCode::BadFrame, "the first command has to be connect"));
        }
        state.in_flight += 1;
        let refused = match verdict {
            Verdict::Pass if state.in_flight > settings.commands_in_flight + in_frame => {
                let message = format!("more than {} commands in flight", settings.commands_in_flight);
                Some(reply::later(ErrorCode::LimitExceeded, message, 100))
            }
            Verdict::Pass => None,
            Verdict::Later(time) => {
                let message = format!("more than {} commands per second", settings.commands_per_second);
                Some(reply::later(ErrorCode::RateLimited, message, millis(time)))
            }
            Verdict::Flood => {
                drop(state);
                let closing = Closing::new(CloseCode::Flood, "far more commands than are allowed");
                return self.end(closing.after(5_000 + commands::spread(5_000)));
            }
        };
        if refused.is_none() && state.phase == Phase::Connecting && !is_connect {
            state.waiting.push_back((command, traceparent.into()));
            return Ok(());
        }
        drop(state);
        match refused {
            Some(error) => reply.fail(&self.shared, error),
            None => run(&self.shared, reply, command.kind, traceparent),
        }
        self.connection.closing().map_or(Ok(()), Err)
    }
}

/// Carries out a command of a connection.
pub(crate) fn run(shared: &Arc<Shared>, reply: Reply, kind: Option<command::Kind>, traceparent: &str) {
    let Reply::Connection(connection, id) = &reply else { return };
    let (connection, id) = (connection.clone(), *id);
    match kind {
        Some(command::Kind::Connect(connect)) => {
            commands::connect::connect(shared, connection, id, connect, traceparent);
        }
        Some(command::Kind::Subscribe(subscribe)) => {
            commands::subscribe::subscribe(shared, connection, id, subscribe, traceparent);
        }
        Some(command::Kind::Unsubscribe(unsubscribe)) => {
            commands::unsubscribe::unsubscribe(shared, connection, id, &unsubscribe.channel);
        }
        Some(command::Kind::Refresh(refresh)) => {
            commands::refresh::refresh(shared, connection, id, refresh.token)
        }
        Some(command::Kind::Ping(_)) => {
            reply.send(shared, server_message::Kind::Pong(Default::default()), None)
        }
        Some(kind) => {
            let caller = Caller::of(&lock(&connection.state), reply, traceparent);
            commands::run(shared, caller, kind);
        }
        None => {
            let message = "the command is none that is known: connect, subscribe, unsubscribe, publish, call, presence, \
                           history, ping, refresh";
            reply.fail(shared, reply::error(ErrorCode::Invalid, message));
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let (shared, connection) = (&self.shared, &self.connection);
        lock(&shared.connections[connection.id as usize % GROUPS]).remove(&connection.id);
        shared.open.fetch_sub(1, Relaxed);
        let (subscriptions, asks, session, leave) = {
            let mut state = lock(&connection.state);
            state.phase = Phase::Ended;
            state.waiting.clear();
            let subscriptions = std::mem::take(&mut state.subscriptions);
            (subscriptions, std::mem::take(&mut state.asks), state.session.clone(), state.leave)
        };
        shared.desk.withdraw(&asks, &shared.counters);
        let mut sessions = lock(&shared.sessions);
        if sessions.get(&session).is_some_and(|current| current.id == connection.id) {
            sessions.remove(&session);
        }
        drop(sessions);
        for Subscription { channel, .. } in subscriptions {
            commands::unsubscribe::leave(shared, connection.id, &session, &channel, !leave);
        }
    }
}
