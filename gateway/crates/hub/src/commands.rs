//! What clients ask for, one module for each family of commands. Each checks, asks the application where it decides, and
//! replies once.

use std::sync::Arc;

use crate::clock::jitter;
use crate::connection::{Connection, Phase, State, actor};
use crate::keys::scoped;
use crate::lock::lock;
use crate::namespace::{self, Namespace};
use crate::proto::{Actor, Error, ErrorCode, command};
use crate::reply::{self, Reply};
use crate::shared::Shared;
use crate::{Identity, Kind};

pub(crate) mod call;
pub(crate) mod connect;
pub(crate) mod publish;
pub(crate) mod read;
pub(crate) mod refresh;
pub(crate) mod subscribe;
pub(crate) mod unsubscribe;

/// Whose command it is, and who waits for its reply.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) actor: Actor,
    pub(crate) identity: Identity,
    pub(crate) reply: Reply,
    pub(crate) traceparent: String,
    /// A plain request's ask, to withdraw when nobody waits any more.
    pub(crate) ask: Option<u64>,
}

impl Caller {
    pub(crate) fn of(state: &State, reply: Reply, traceparent: &str) -> Self {
        let (actor, identity) = (state.actor(), state.identity.clone());
        Self { actor, identity, reply, traceparent: traceparent.into(), ask: None }
    }

    pub(crate) fn once(identity: Identity, reply: Reply, traceparent: &str, ask: u64) -> Self {
        let actor = actor(&identity, "");
        Self { actor, identity, reply, traceparent: traceparent.into(), ask: Some(ask) }
    }

    pub(crate) fn connection(&self) -> Option<&Arc<Connection>> {
        self.reply.connection()
    }

    pub(crate) fn fail(self, shared: &Shared, error: Error) {
        self.reply.fail(shared, error);
    }

    /// A key of this caller; empty: none.
    pub(crate) fn key(&self, key: &str) -> String {
        let who =
            if self.identity.kind == Kind::Anonymous { &self.actor.session } else { &self.actor.subject };
        if key.is_empty() { String::new() } else { scoped(&self.actor.kind, who, key) }
    }
}

/// Carries out what plain requests may ask for, too.
pub(crate) fn run(shared: &Arc<Shared>, caller: Caller, kind: command::Kind) {
    match kind {
        command::Kind::Publish(publish) => publish::publish(shared, caller, publish),
        command::Kind::Call(call) => call::call(shared, caller, call),
        command::Kind::Presence(query) => read::presence(shared, caller, &query.channel),
        command::Kind::History(query) => read::history(shared, caller, query),
        _ => {
            let message = "a plain request may publish, call, and read history and presence";
            caller.fail(shared, reply::error(ErrorCode::Invalid, message));
        }
    }
}

/// Up to twice a time, at random, and at least half of it: spreads what would come back at once.
pub(crate) fn spread(ms: u32) -> u32 {
    ms / 2 + jitter(ms + ms / 2)
}

/// Checks a channel's name and finds its namespace.
pub(crate) fn namespace(shared: &Shared, channel: &str) -> Result<Arc<Namespace>, Error> {
    let invalid = |message| reply::error(ErrorCode::Invalid, message);
    let name = namespace::of_channel(channel, shared.settings().channel_name_bytes).map_err(invalid)?;
    shared.namespace(name).ok_or_else(|| nobody(shared, format!("no namespace {name}")))
}

/// Nobody serves what is asked for, now or ever.
pub(crate) fn nobody(shared: &Shared, message: String) -> Error {
    if shared.desk.is_anybody_there() {
        reply::error(ErrorCode::NotFound, message)
    } else {
        reply::later(ErrorCode::Unavailable, "the application is away", spread(1_000))
    }
}

/// Notes an ask of a connection, so that it is withdrawn with it. False: the connection is gone.
pub(crate) fn note(connection: &Connection, ask: u64) -> bool {
    let mut state = lock(&connection.state);
    state.asks.push(ask);
    state.phase != Phase::Ended
}

/// An ask is answered.
pub(crate) fn noted(connection: &Connection, ask: u64) {
    lock(&connection.state).asks.retain(|id| *id != ask);
}
