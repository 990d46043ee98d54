//! What subscribers read: who is there, and what was published.

use std::sync::Arc;

use super::{Caller, namespace};
use crate::codec::Body;
use crate::desk::{Ask, Target};
use crate::lock::lock;
use crate::log::Entry;
use crate::namespace::Namespace;
use crate::proto::{
    AskSubscribe, Decision, Error, ErrorCode, HistoryPage, HistoryQuery, answer, ask, server_message,
};
use crate::reply::{self, Reply};
use crate::shared::Shared;

pub(crate) fn presence(shared: &Arc<Shared>, caller: Caller, channel: &str) {
    let limit = shared.settings().presence_members;
    let list = namespace(shared, channel).and_then(|namespace| {
        subscribed(&caller, channel)?;
        if !namespace.presence {
            let message = format!("the namespace {} does not show who is there", namespace.name);
            return Err(reply::error(ErrorCode::Invalid, message));
        }
        let list = shared.channels.with(channel, |channel| channel.presence.as_ref().map(|p| p.list(limit)));
        Ok(list.flatten().unwrap_or_default())
    });
    match list {
        Ok(list) => caller.reply.send(shared, server_message::Kind::Presence(list), None),
        Err(error) => caller.fail(shared, error),
    }
}

fn subscribed(caller: &Caller, channel: &str) -> Result<(), Error> {
    match caller.connection() {
        Some(connection) if lock(&connection.state).is_subscribed(channel) => Ok(()),
        _ => Err(reply::error(ErrorCode::PermissionDenied, format!("only for subscribers of {channel}"))),
    }
}

pub(crate) fn history(shared: &Arc<Shared>, caller: Caller, query: HistoryQuery) {
    let namespace = match namespace(shared, &query.channel) {
        Ok(namespace) => namespace,
        Err(error) => return caller.fail(shared, error),
    };
    if caller.connection().is_some() {
        return match subscribed(&caller, &query.channel) {
            Ok(()) => page(shared, caller, &namespace, &query),
            Err(error) => caller.fail(shared, error),
        };
    }
    // A plain request has no subscription: whoever decides about those decides about this.
    match namespace.subscribe {
        Decision::Allow => page(shared, caller, &namespace, &query),
        Decision::Deny => {
            let message = "clients may not subscribe in this namespace";
            caller.fail(shared, reply::error(ErrorCode::PermissionDenied, message));
        }
        _ => ask(shared, caller, namespace, query),
    }
}

fn ask(shared: &Arc<Shared>, caller: Caller, namespace: Arc<Namespace>, query: HistoryQuery) {
    let id = caller.ask.unwrap_or_else(|| shared.id());
    let (actor, traceparent) = (caller.actor.clone(), caller.traceparent.clone());
    let target = Target::Namespace(namespace.name.clone());
    let kind = ask::Kind::Subscribe(AskSubscribe { channel: query.channel.clone(), data: None });
    let then = Box::new(move |shared: &Arc<Shared>, result| match result {
        Ok(answer::Kind::Subscribe(_)) => page(shared, caller, &namespace, &query),
        Ok(_) => caller.fail(shared, reply::error(ErrorCode::Internal, "an answer of another kind")),
        Err(error) => caller.fail(shared, error),
    });
    shared.ask(Ask { id, target, kind, actor, traceparent, safe: true, then });
}

fn page(shared: &Shared, caller: Caller, namespace: &Arc<Namespace>, query: &HistoryQuery) {
    let settings = shared.settings();
    let most = namespace.bounds(&settings).entries;
    let limit = if query.limit == 0 { most } else { most.min(query.limit as usize) };
    let page = shared.channels.with_new(&query.channel, namespace, settings.channels, |channel| {
        let most = settings.coalesce_bytes;
        let bytes =
            caller.connection().map_or(most, |connection| connection.room(most, settings.outbox_bytes));
        channel.history(query.from.as_ref(), limit, bytes)
    });
    let (head, entries) = match page {
        Ok(Some(page)) => page,
        Ok(None) => {
            let message = format!("the namespace {} keeps no history", namespace.name);
            return caller.fail(shared, reply::error(ErrorCode::Invalid, message));
        }
        Err(error) => return caller.fail(shared, error),
    };
    match caller.reply {
        Reply::Connection(connection, id) => {
            connection.write(shared, &Body::History { id, head: &head, entries: &entries }, None);
            connection.finish(shared);
        }
        reply => {
            let publications = entries.iter().map(Entry::publication).collect();
            reply.send(shared, server_message::Kind::History(HistoryPage { publications, ..head }), None);
        }
    }
}
