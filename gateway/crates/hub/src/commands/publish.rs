//! Publications of clients: the namespace or the application decides, then they go to everybody.

use std::sync::Arc;

use super::{Caller, namespace};
use crate::bucket::{Bucket, Verdict};
use crate::channel::Draft;
use crate::clock::{Instant, millis};
use crate::codec::check;
use crate::desk::{Ask, Target};
use crate::lock::lock;
use crate::namespace::Namespace;
use crate::proto::{
    AskPublish, ChannelKind, Decision, Error, ErrorCode, Payload, Publish, PublishAnswer, Published, answer,
    ask, server_message,
};
use crate::reply;
use crate::shared::Shared;

/// A key has at most so many bytes.
pub(crate) const KEY_BYTES: usize = 64;
/// The key of a value, too.
pub(crate) const LATEST_KEY_BYTES: usize = 128;

pub(crate) fn publish(shared: &Arc<Shared>, caller: Caller, publish: Publish) {
    let namespace = match namespace(shared, &publish.channel)
        .and_then(|namespace| check_publish(&namespace, &publish).map(|()| namespace))
        .and_then(|namespace| may(shared, &caller, &namespace, &publish.channel).map(|()| namespace))
    {
        Ok(namespace) => namespace,
        Err(error) => return caller.fail(shared, error),
    };
    let key = caller.key(&publish.key);
    let known = shared.channels.with(&publish.channel, |channel| {
        channel
            .keys
            .get(&key)
            .filter(|_| !key.is_empty())
            .map(|offset| channel.place(offset).unwrap_or_default())
    });
    if let Some(position) = known.flatten() {
        let published = Published { position: Some(position), duplicate: true, data: None };
        return caller.reply.send(shared, server_message::Kind::Published(published), None);
    }
    if namespace.publish == Decision::Allow {
        return accept(shared, caller, &namespace, publish, PublishAnswer::default());
    }
    ask(shared, caller, namespace, publish);
}

fn check_publish(namespace: &Namespace, publish: &Publish) -> Result<(), Error> {
    let invalid = |message: String| Err(reply::error(ErrorCode::Invalid, message));
    check_keys(namespace, &publish.key, &publish.latest_key)
        .map_err(|message| reply::error(ErrorCode::Invalid, message))?;
    if publish.data.as_ref().is_none_or(|data| data.kind.is_none()) {
        return invalid("data: it is missing; {\"json\": …} or {\"binary\": …} is allowed".into());
    }
    check(publish.data.as_ref()).or_else(invalid)
}

/// The rules for keys, of clients and of the application.
pub(crate) fn check_keys(namespace: &Namespace, key: &str, latest_key: &str) -> Result<(), String> {
    if key.len() > KEY_BYTES {
        return Err(format!("key: {} bytes; at most {KEY_BYTES} are allowed", key.len()));
    }
    if latest_key.len() > LATEST_KEY_BYTES {
        return Err(format!(
            "latest_key: {} bytes; at most {LATEST_KEY_BYTES} are allowed",
            latest_key.len()
        ));
    }
    if !latest_key.is_empty() && namespace.kind != ChannelKind::Latest {
        return Err(format!("latest_key: the namespace {} is not one of latest values", namespace.name));
    }
    Ok(())
}

/// Whether the namespace and the rates let this caller publish.
fn may(shared: &Shared, caller: &Caller, namespace: &Arc<Namespace>, name: &str) -> Result<(), Error> {
    let denied = |message: &str| Err(reply::error(ErrorCode::PermissionDenied, message));
    if namespace.publish == Decision::Deny {
        return denied("clients may not publish in this namespace");
    }
    let (settings, now) = (shared.settings(), Instant::now());
    if let Some(connection) = caller.connection() {
        let mut state = lock(&connection.state);
        if state.subscription(name).is_some_and(|subscription| subscription.read_only) {
            return denied("this subscription is for reading only");
        }
        let rate = namespace.rate(&settings);
        let index = state.rates.iter().position(|(of, _)| *of == namespace.name).unwrap_or_else(|| {
            state.rates.push((namespace.name.clone(), Bucket::full(now, rate, 4)));
            state.rates.len() - 1
        });
        within(state.rates[index].1.take_or_leave(now, rate, 4), "a connection", rate)?;
    }
    let rate = namespace.channel_rate(&settings);
    shared.channels.with_new(name, namespace, settings.channels, |channel| {
        let bucket = channel.rate.get_or_insert_with(|| Bucket::full(now, rate, 1));
        within(bucket.take_or_leave(now, rate, 1), "a channel", rate)
    })?
}

fn within(verdict: Verdict, of: &str, rate: u32) -> Result<(), Error> {
    let message = || format!("more than {rate} publications per second of {of}");
    match verdict {
        Verdict::Pass => Ok(()),
        Verdict::Later(time) => Err(reply::later(ErrorCode::RateLimited, message(), millis(time))),
        Verdict::Flood => Err(reply::later(ErrorCode::RateLimited, message(), 1_000)),
    }
}

/// Asks the application. The client going away does not matter: what it accepts has to reach the others.
fn ask(shared: &Arc<Shared>, mut caller: Caller, namespace: Arc<Namespace>, publish: Publish) {
    let id = shared.id();
    caller.ask = None;
    let target = Target::Namespace(namespace.name.clone());
    let (actor, traceparent) = (caller.actor.clone(), caller.traceparent.clone());
    // What repeats after a broken link are only publishes with a key.
    let safe = !publish.key.is_empty();
    let key = if safe { publish.key.clone() } else { crate::ids::session() };
    let kind = ask::Kind::Publish(AskPublish {
        channel: publish.channel.clone(),
        data: publish.data.clone(),
        key,
        latest_key: publish.latest_key.clone(),
    });
    let then = Box::new(move |shared: &Arc<Shared>, result| match result {
        Ok(answer::Kind::Publish(answer)) => accept(shared, caller, &namespace, publish, answer),
        Ok(_) => caller.fail(shared, reply::error(ErrorCode::Internal, "an answer of another kind")),
        Err(error) => caller.fail(shared, error),
    });
    shared.ask(Ask { id, target, kind, actor, traceparent, safe, then });
}

/// The publication is accepted: everybody gets it. One that the application had before, but the log has not, was not
/// delivered as far as is known, so it is: subscribers would rather see it twice than never.
fn accept(
    shared: &Arc<Shared>,
    caller: Caller,
    namespace: &Arc<Namespace>,
    publish: Publish,
    answer: PublishAnswer,
) {
    let latest_key = if answer.latest_key.is_empty() { publish.latest_key } else { answer.latest_key };
    let checked = check_keys(namespace, "", &latest_key)
        .and_then(|()| check(answer.publish.as_ref()))
        .and_then(|()| check(answer.data.as_ref()));
    if let Err(error) = checked {
        return caller.fail(shared, reply::error(ErrorCode::Internal, format!("the answer's {error}")));
    }
    let draft = Draft {
        data: answer.publish.or(publish.data).filter(|_| !answer.silent),
        latest_key,
        removed: false,
        sender: caller.actor.subject.clone(),
        key: caller.key(&publish.key),
        silent: answer.silent,
    };
    let published = shared.channels.publish(shared, namespace, &publish.channel, draft);
    respond(shared, caller, published, answer.duplicate, answer.data);
}

fn respond(
    shared: &Shared,
    caller: Caller,
    published: Result<(Option<crate::proto::Position>, bool), Error>,
    had: bool,
    data: Option<Payload>,
) {
    match published {
        Ok((position, duplicate)) => {
            let published = Published { position, duplicate: duplicate || had, data };
            caller.reply.send(shared, server_message::Kind::Published(published), None);
        }
        Err(error) => caller.fail(shared, error),
    }
}
