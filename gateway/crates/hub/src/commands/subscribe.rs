//! Subscriptions come and go: asked for, gone on with by a ticket, ended.

use std::sync::Arc;

use super::{namespace, note, noted};
use crate::channels::Parting;
use crate::clock::Instant;
use crate::codec::{Body, check};
use crate::connection::{Connection, Phase, State, Subscription};
use crate::desk::{Ask, Target};
use crate::lock::lock;
use crate::log::Entries;
use crate::namespace::Namespace;
use crate::outbox::Place;
use crate::proto::{
    AskSubscribe, Decision, Error, ErrorCode, Left, Member, Position, Resume, Subscribe, SubscribeAnswer,
    Subscribed, Unsubscribed, answer, ask, server_message,
};
use crate::reply::{self, Reply};
use crate::shared::Shared;
use crate::ticket::Claims;

pub(crate) fn subscribe(
    shared: &Arc<Shared>,
    connection: Arc<Connection>,
    id: u32,
    subscribe: Subscribe,
    traceparent: &str,
) {
    let ask = shared.id();
    let reserved = namespace(shared, &subscribe.channel)
        .and_then(|namespace| reserve(shared, &connection, &subscribe.channel, ask).map(|()| namespace));
    let namespace = match reserved {
        Ok(namespace) => namespace,
        Err(error) => return Reply::Connection(connection, id).fail(shared, error),
    };
    let pending = Pending { connection, id, ask, channel: subscribe.channel, from: subscribe.from };
    match namespace.subscribe {
        Decision::Allow => pending.accept(shared, &namespace, SubscribeAnswer::default()),
        Decision::Deny => {
            let message = "clients may not subscribe in this namespace";
            pending.refuse(shared, reply::error(ErrorCode::PermissionDenied, message));
        }
        _ => pending.ask(shared, namespace, subscribe.data, traceparent),
    }
}

/// Keeps a place for a subscription, so that no second one comes while the application is asked.
fn reserve(shared: &Shared, connection: &Connection, channel: &str, ask: u64) -> Result<(), Error> {
    let mut state = lock(&connection.state);
    let bound = shared.settings().channels_per_connection;
    if state.subscription(channel).is_some() {
        return Err(reply::error(
            ErrorCode::Conflict,
            format!("there is a subscription to {channel} already"),
        ));
    }
    if state.subscriptions.len() >= bound {
        return Err(reply::error(ErrorCode::LimitExceeded, format!("more than {bound} subscriptions")));
    }
    let channel = channel.into();
    state.subscriptions.push(Subscription { channel, read_only: false, member: None, pending: Some(ask) });
    Ok(())
}

/// A subscription that is not decided yet.
struct Pending {
    connection: Arc<Connection>,
    id: u32,
    ask: u64,
    channel: String,
    from: Option<Position>,
}

impl Pending {
    fn ask(
        self,
        shared: &Arc<Shared>,
        namespace: Arc<Namespace>,
        data: Option<crate::proto::Payload>,
        traceparent: &str,
    ) {
        let id = self.ask;
        if !note(&self.connection, id) {
            return;
        }
        let actor = lock(&self.connection.state).actor();
        let (target, traceparent) = (Target::Namespace(namespace.name.clone()), traceparent.to_owned());
        let kind = ask::Kind::Subscribe(AskSubscribe { channel: self.channel.clone(), data });
        let then = Box::new(move |shared: &Arc<Shared>, result| {
            noted(&self.connection, id);
            match result {
                Ok(answer::Kind::Subscribe(answer)) => self.accept(shared, &namespace, answer),
                Ok(_) => self.refuse(shared, reply::error(ErrorCode::Internal, "an answer of another kind")),
                Err(error) => self.refuse(shared, error),
            }
        });
        shared.ask(Ask { id, target, kind, actor, traceparent, safe: true, then });
    }

    fn refuse(self, shared: &Shared, error: Error) {
        let mut state = lock(&self.connection.state);
        if state.subscription(&self.channel).is_some_and(|own| own.pending == Some(self.ask)) {
            state.remove(&self.channel);
        }
        drop(state);
        Reply::Connection(self.connection, self.id).fail(shared, error);
    }

    /// The subscription stands: its reply, and from then on what is published, in this order.
    fn accept(self, shared: &Shared, namespace: &Arc<Namespace>, answer: SubscribeAnswer) {
        let checked = check(answer.data.as_ref()).and_then(|()| check(answer.member.as_ref()));
        if let Err(error) = checked {
            return self.refuse(shared, reply::error(ErrorCode::Internal, format!("the answer's {error}")));
        }
        let settings = shared.settings();
        let mut guard = lock(&self.connection.state);
        let state = &mut *guard;
        let own = state.subscriptions.iter_mut().find(|own| *own.channel == *self.channel);
        let Some(own) = own.filter(|own| own.pending == Some(self.ask)) else {
            drop(guard);
            let error = reply::error(ErrorCode::Conflict, "unsubscribed before the subscription stood");
            return Reply::Connection(self.connection, self.id).fail(shared, error);
        };
        own.pending = None;
        own.read_only = answer.read_only;
        own.member = answer.member;
        state.ticket_stale = true;
        let member = member(state, &self.channel);
        let (actor, session) = (state.actor(), state.session.clone());
        let joined = shared.channels.with_new(&self.channel, namespace, settings.channels, |channel| {
            let context = shared.context(&settings);
            let connection = &self.connection;
            let bytes = connection.room(settings.coalesce_bytes, settings.outbox_bytes);
            let (mut head, entries) = channel.join(connection, self.from.as_ref(), bytes, false, context);
            head.data = answer.data;
            let at = head.position.as_ref().map_or(0, |at| at.offset);
            if self.id != 0 {
                let body = Body::Subscribed { id: self.id, head: &head, entries: &entries };
                connection.write(shared, &body, Some(channel.mark(at)));
            }
            if head.more {
                connection.refill(channel.name.clone());
            }
            if let Some(presence) = &mut channel.presence {
                presence.enter(&session, actor, member, connection.id);
            }
            channel.name.clone()
        });
        match joined {
            Ok(name) => {
                drop(guard);
                shared.channels.presence_changed(name);
                self.connection.finish(shared);
            }
            Err(error) => {
                drop(guard);
                self.drop_place();
                Reply::Connection(self.connection, self.id).fail(shared, error);
            }
        }
    }

    fn drop_place(&self) {
        lock(&self.connection.state).remove(&self.channel);
    }
}

/// How a session shows in a channel.
fn member(state: &State, channel: &str) -> Member {
    let own = state.subscription(channel).and_then(|own| own.member.clone());
    Member {
        session: state.session.to_string(),
        subject: state.identity.subject.clone(),
        data: own.or_else(|| state.member.clone()),
    }
}

/// Goes on with subscriptions that a ticket grants. Each is parked: nothing comes of it before the reply.
pub(crate) fn go_on(
    shared: &Shared,
    connection: &Arc<Connection>,
    state: &mut State,
    resume: &[Resume],
    claims: Option<Claims>,
) -> Vec<(Subscribed, Entries)> {
    let settings = shared.settings();
    let mut bytes = connection.room(settings.coalesce_bytes, settings.outbox_bytes);
    let mut granted = claims.map(|claims| claims.grants).unwrap_or_default();
    let mut one = |resume: &Resume| -> Result<(Subscribed, Entries), Error> {
        let name = &resume.channel;
        let Some(index) = granted.iter().position(|grant| grant.channel == *name) else {
            let message = "the ticket does not grant this subscription: subscribe";
            return Err(reply::error(ErrorCode::PermissionDenied, message));
        };
        let grant = granted.swap_remove(index);
        let namespace = namespace(shared, name)?;
        if state.subscriptions.len() >= settings.channels_per_connection {
            return Err(reply::error(ErrorCode::LimitExceeded, "too many subscriptions"));
        }
        let own = Subscription {
            channel: name.as_str().into(),
            read_only: grant.read_only,
            member: grant.member,
            pending: None,
        };
        state.subscriptions.push(own);
        let (member, actor) = (member(state, name), state.actor());
        let joined = shared.channels.with_new(name, &namespace, settings.channels, |channel| {
            let joined =
                channel.join(connection, resume.from.as_ref(), bytes, true, shared.context(&settings));
            if let Some(presence) = &mut channel.presence {
                presence.enter(&state.session, actor, member, connection.id);
            }
            (joined, channel.name.clone())
        });
        let (joined, name) = joined.inspect_err(|_| drop(state.remove(name)))?;
        shared.channels.presence_changed(name);
        bytes = bytes.saturating_sub(joined.1.iter().map(|entry| entry.protobuf().len()).sum());
        Ok(joined)
    };
    let failed = |resume: &Resume, error| {
        (Subscribed { channel: resume.channel.clone(), error: Some(error), ..Subscribed::default() }, vec![])
    };
    resume.iter().map(|resume| one(resume).unwrap_or_else(|error| failed(resume, error))).collect()
}

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
