//! Subscriptions end: by the client, with its connection, by the application.

use std::sync::Arc;

use super::noted;
use crate::channels::Parting;
use crate::clock::Instant;
use crate::connection::{Connection, Phase};
use crate::lock::lock;
use crate::namespace::Namespace;
use crate::outbox::Place;
use crate::proto::{Error, ErrorCode, Left, Unsubscribed, server_message};
use crate::reply::{self, Reply};
use crate::shared::Shared;

pub(crate) fn unsubscribe(shared: &Arc<Shared>, connection: Arc<Connection>, id: u32, channel: &str) {
    let (removed, session) = {
        let mut state = lock(&connection.state);
        (state.remove(channel), state.session.clone())
    };
    let reply = Reply::Connection(connection.clone(), id);
    let Some(removed) = removed else {
        let error = reply::error(ErrorCode::NotFound, format!("there is no subscription to {channel}"));
        return reply.fail(shared, error);
    };
    match removed.pending {
        // The reply to its subscribe says so, too.
        Some(ask) => {
            noted(&connection, ask);
            shared.desk.withdraw(&[ask], &shared.counters);
            connection.finish(shared);
        }
        None => leave(shared, connection.id, &session, &removed.channel, false),
    }
    let unsubscribed = Unsubscribed { channel: channel.into(), error: None };
    let place = Some(Place::Left(channel.into()));
    reply.send(shared, server_message::Kind::Unsubscribed(unsubscribed), place);
}

/// A connection is in a channel no more. `grace`: its session may be back.
pub(crate) fn leave(shared: &Shared, connection: u64, session: &Arc<str>, name: &Arc<str>, grace: bool) {
    let left = shared.channels.with(name, |channel| {
        channel.subscribers.remove(&connection);
        let presence = channel.presence.as_mut()?;
        if grace {
            return presence.gone(session, connection).then_some((None, channel.namespace.clone()));
        }
        let actor = presence.leave(session, connection)?;
        Some((Some(actor), channel.namespace.clone()))
    });
    match left.flatten() {
        Some((Some(actor), namespace)) => tell_left(shared, actor, name, &namespace),
        Some((None, _)) => {
            let at = Instant::now() + shared.settings().presence_grace;
            let parting = Parting { at, channel: name.clone(), session: session.clone(), connection };
            lock(&shared.channels.parting).push_back(parting);
        }
        None => {}
    }
}

/// A session left: subscribers see it with the next tick, and the application is told where it wants to be.
pub(crate) fn tell_left(shared: &Shared, actor: crate::proto::Actor, name: &Arc<str>, namespace: &Namespace) {
    shared.channels.presence_changed(name.clone());
    if namespace.tell_left {
        let left = Left { actor: Some(actor), channel: name.to_string() };
        shared.desk.left(&namespace.service, left, shared.settings().events, &shared.counters);
    }
}

/// Ends a subscription that the client did not end. `error` says whether it may subscribe again.
pub(crate) fn end(shared: &Shared, connection: &Connection, channel: &Arc<str>, error: Error) {
    let (removed, session) = {
        let mut state = lock(&connection.state);
        if state.phase == Phase::Ended {
            return;
        }
        (state.remove(channel), state.session.clone())
    };
    let Some(removed) = removed else { return };
    if removed.pending.is_none() {
        leave(shared, connection.id, &session, channel, false);
    }
    let unsubscribed = Unsubscribed { channel: channel.to_string(), error: Some(error) };
    let place = Some(Place::Left(channel.clone()));
    connection.push(shared, server_message::Kind::Unsubscribed(unsubscribed), place);
}
