//! Sessions begin: by the application's answer, or by a ticket without asking. And tokens are renewed.

use std::sync::{Arc, PoisonError};

use super::{note, noted, subscribe};
use crate::client::run;
use crate::clock::{millis, unix_ms};
use crate::codec::{Body, check};
use crate::connection::{Connection, Phase, State};
use crate::desk::{Ask, Target};
use crate::lock::lock;
use crate::outbox::Place;
use crate::proto::{
    AskConnect, CloseCode, Connect, Connected, Error, ErrorCode, Limits, Payload, Resume, answer, ask,
    server_message,
};
use crate::reply::{self, Reply};
use crate::shared::Shared;
use crate::ticket::{Claims, Refused};
use crate::{Closing, Denied, Identity, Kind, ids};

/// A session that is about to open.
struct Opening {
    identity: Identity,
    session: Arc<str>,
    member: Option<Payload>,
    data: Option<Payload>,
    resume: Vec<Resume>,
    /// The ticket that it goes on with.
    claims: Option<Claims>,
}

pub(crate) fn connect(
    shared: &Arc<Shared>,
    connection: Arc<Connection>,
    id: u32,
    connect: Connect,
    traceparent: &str,
) {
    let identity = {
        let mut state = lock(&connection.state);
        if state.phase != Phase::New {
            drop(state);
            let error = reply::error(ErrorCode::Conflict, "this connection is connected, or about to be");
            return Reply::Connection(connection, id).fail(shared, error);
        }
        state.phase = Phase::Connecting;
        state.identity.clone()
    };
    let traceparent = traceparent.to_owned();
    if connect.token.is_empty() {
        return identified(shared, connection, id, connect, identity, traceparent);
    }
    let shared = shared.clone();
    // The one task of a connection; verifying may have to fetch keys.
    tokio::spawn(async move {
        match shared.authenticate.authenticate(&connect.token).await {
            Ok(identity) => identified(&shared, connection, id, connect, identity, traceparent),
            Err(denied) => fail(&shared, &connection, id, denied_error(denied), false),
        }
    });
}

/// Who connects is known: a ticket resumes, and without one the application is asked.
fn identified(
    shared: &Arc<Shared>,
    connection: Arc<Connection>,
    id: u32,
    connect: Connect,
    identity: Identity,
    traceparent: String,
) {
    lock(&connection.state).identity = identity.clone();
    if !connect.ticket.is_empty() {
        return match resume(shared, &connect.ticket, identity) {
            Ok((identity, claims)) => {
                let (session, member) = (claims.session.as_str().into(), claims.member.clone());
                let claims = Some(claims);
                open(
                    shared,
                    &connection,
                    id,
                    Opening { identity, session, member, data: None, resume: connect.resume, claims },
                );
            }
            Err(error) => fail(shared, &connection, id, error, false),
        };
    }
    let asked = shared.known.read().unwrap_or_else(PoisonError::into_inner).asks_connects();
    let opening = Opening {
        identity,
        session: ids::session().into(),
        member: None,
        data: None,
        resume: connect.resume,
        claims: None,
    };
    if !asked {
        return open(shared, &connection, id, opening);
    }
    ask(shared, connection, id, opening, connect.data, traceparent);
}

fn ask(
    shared: &Arc<Shared>,
    connection: Arc<Connection>,
    id: u32,
    opening: Opening,
    data: Option<Payload>,
    traceparent: String,
) {
    let ask = shared.id();
    if !note(&connection, ask) {
        return;
    }
    let actor = crate::connection::actor(&opening.identity, &opening.session);
    let then = Box::new(move |shared: &Arc<Shared>, result: Result<answer::Kind, Error>| {
        noted(&connection, ask);
        match result {
            Ok(answer::Kind::Connect(answer)) => {
                let checked = check(answer.data.as_ref()).and_then(|()| check(answer.member.as_ref()));
                if let Err(error) = checked {
                    let error = reply::error(ErrorCode::Internal, format!("the answer's {error}"));
                    return fail(shared, &connection, id, error, false);
                }
                open(
                    shared,
                    &connection,
                    id,
                    Opening { member: answer.member, data: answer.data, ..opening },
                );
            }
            Ok(_) => {
                let error = reply::error(ErrorCode::Internal, "an answer of another kind");
                fail(shared, &connection, id, error, false);
            }
            // A refusal that time does not change ends the connection.
            Err(error) => {
                let refused = error.retry_after_ms == 0;
                fail(shared, &connection, id, error, refused);
            }
        }
    });
    let kind = ask::Kind::Connect(AskConnect { data });
    shared.ask(Ask { id: ask, target: Target::Connects, kind, actor, traceparent, safe: true, then });
}

/// Checks a ticket. A token that came along counts instead of the one that the ticket was made for.
fn resume(shared: &Shared, ticket: &str, identity: Identity) -> Result<(Identity, Claims), Error> {
    let mut claims = shared.tickets.check(ticket, unix_ms()).map_err(|refused| match refused {
        Refused::Forged => {
            reply::error(ErrorCode::Unauthenticated, "the ticket is not good: connect without it")
        }
        Refused::Ended => reply::error(ErrorCode::Expired, "the ticket has ended: connect without it"),
    })?;
    if lock(&shared.revoked).covers(&claims, "") {
        return Err(reply::error(
            ErrorCode::Unauthenticated,
            "the session was ended: connect without the ticket",
        ));
    }
    let of_ticket = claims.identity();
    let revoked = lock(&shared.revoked);
    claims.grants.retain(|grant| {
        let known = Claims {
            grants: vec![],
            member: None,
            ..claims_head(&of_ticket, &claims.session, claims.issued_ms)
        };
        !revoked.covers(&known, &grant.channel)
    });
    drop(revoked);
    match identity.kind {
        Kind::Anonymous => Ok((of_ticket, claims)),
        _ if identity.subject == of_ticket.subject && identity.kind == of_ticket.kind => {
            Ok((identity, claims))
        }
        _ => Err(reply::error(
            ErrorCode::Unauthenticated,
            "the ticket is of another subject: connect without it",
        )),
    }
}

fn claims_head(identity: &Identity, session: &str, issued_ms: u64) -> Claims {
    Claims { session: session.into(), subject: identity.subject.clone(), issued_ms, ..Claims::default() }
}

/// Opens the session: takes it over from an older connection, goes on with its subscriptions, and replies.
fn open(shared: &Arc<Shared>, connection: &Arc<Connection>, id: u32, opening: Opening) {
    let waiting = {
        let mut state = lock(&connection.state);
        if state.phase != Phase::Connecting {
            return;
        }
        state.phase = Phase::Open;
        state.identity = opening.identity;
        state.session = opening.session.clone();
        state.member = opening.member;
        replace(shared, connection, &opening.session);
        let resumed = opening.claims.is_some();
        let subscriptions = subscribe::go_on(shared, connection, &mut state, &opening.resume, opening.claims);
        let ticket = shared.ticket(&mut state);
        let mut places = vec![Place::Ticket(ticket.ticket.clone())];
        places.extend(subscriptions.iter().filter(|(head, _)| head.error.is_none()).map(|(head, _)| {
            let (epoch, offset) = head.position.as_ref().map_or(("", 0), |at| (&at.epoch, at.offset));
            Place::At(head.channel.as_str().into(), epoch.into(), offset)
        }));
        let head = connected(shared, &opening.session, ticket, resumed, opening.data);
        if id != 0 {
            let body = Body::Connected { id, head: &head, subscriptions: &subscriptions };
            connection.write(shared, &body, Some(Place::All(places)));
        }
        // Nothing of a subscription may come before the reply that names it.
        state.subscriptions.iter().for_each(|subscription| connection.refill(subscription.channel.clone()));
        std::mem::take(&mut state.waiting)
    };
    for (command, traceparent) in waiting {
        run(shared, Reply::Connection(connection.clone(), command.id), command.kind, &traceparent);
    }
    connection.finish(shared);
}

fn connected(
    shared: &Shared,
    session: &str,
    ticket: crate::proto::Ticket,
    resumed: bool,
    data: Option<Payload>,
) -> Connected {
    if resumed {
        shared.counters.resumed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    let settings = shared.settings();
    let limits = Limits {
        channels: settings.channels_per_connection as u32,
        channel_name_bytes: settings.channel_name_bytes as u32,
        frame_bytes: settings.frame_bytes as u32,
        commands_per_second: settings.commands_per_second,
        commands_in_flight: settings.commands_in_flight as u32,
    };
    Connected {
        session: session.into(),
        ticket: Some(ticket),
        resumed,
        heartbeat_ms: millis(settings.heartbeat),
        limits: Some(limits),
        data,
        ..Connected::default()
    }
}

/// The newest connection of a session is the one that counts.
fn replace(shared: &Shared, connection: &Arc<Connection>, session: &Arc<str>) {
    let before = lock(&shared.sessions).insert(session.clone(), connection.clone());
    if let Some(before) = before.filter(|before| before.id != connection.id) {
        let closing = Closing::new(CloseCode::Replaced, "the session was resumed on another connection");
        before.close(closing, &shared.counters);
    }
}

/// Connect failed. The client may try again on the same connection, unless the application refuses it.
fn fail(shared: &Arc<Shared>, connection: &Arc<Connection>, id: u32, error: Error, refused: bool) {
    let waiting = {
        let mut state = lock(&connection.state);
        if state.phase == Phase::Connecting {
            state.phase = Phase::New;
        }
        std::mem::take(&mut state.waiting)
    };
    let message = error.message.clone();
    for (command, _) in waiting {
        let before = reply::later(ErrorCode::Unauthenticated, "connect failed", error.retry_after_ms);
        Reply::Connection(connection.clone(), command.id).fail(shared, before);
    }
    Reply::Connection(connection.clone(), id).fail(shared, error);
    if refused {
        connection.close(Closing::new(CloseCode::Refused, message), &shared.counters);
    }
}

fn denied_error(denied: Denied) -> Error {
    match denied {
        Denied::Invalid => reply::error(ErrorCode::Unauthenticated, "the token is not good"),
        Denied::Expired => reply::error(ErrorCode::Expired, "the token has ended"),
    }
}

/// A new token for an open session; it has to be of the same subject.
pub(crate) fn refresh(shared: &Arc<Shared>, connection: Arc<Connection>, id: u32, token: String) {
    let shared = shared.clone();
    tokio::spawn(async move {
        let result = shared.authenticate.authenticate(&token).await;
        let reply = Reply::Connection(connection.clone(), id);
        let renewed = result.map_err(denied_error).and_then(|identity| renew(&shared, &connection, identity));
        match renewed {
            Ok(ticket) => {
                let place = Some(Place::Ticket(ticket.ticket.clone()));
                reply.send(&shared, server_message::Kind::Ticket(ticket), place);
            }
            Err(error) => reply.fail(&shared, error),
        }
    });
}

fn renew(
    shared: &Shared,
    connection: &Connection,
    identity: Identity,
) -> Result<crate::proto::Ticket, Error> {
    let state: &mut State = &mut lock(&connection.state);
    if identity.subject != state.identity.subject || identity.kind != state.identity.kind {
        return Err(reply::error(ErrorCode::PermissionDenied, "the token is of another subject"));
    }
    state.identity = identity;
    Ok(shared.ticket(state))
}
