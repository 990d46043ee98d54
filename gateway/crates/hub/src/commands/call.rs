//! Calls: the application answers.

use std::sync::{Arc, PoisonError};

use super::{Caller, nobody, note, noted};
use crate::codec::check;
use crate::desk::{Ask, Target};
use crate::namespace::serves;
use crate::proto::{Call, ErrorCode, answer, ask, server_message};
use crate::reply;
use crate::shared::Shared;

pub(crate) fn call(shared: &Arc<Shared>, caller: Caller, call: Call) {
    if call.method.is_empty() || call.method.len() > 128 {
        return caller.fail(shared, reply::error(ErrorCode::Invalid, "method: 1 to 128 bytes are allowed"));
    }
    let known = shared.known.read().unwrap_or_else(PoisonError::into_inner);
    let is_known = known.methods.iter().any(|prefix| serves(prefix, &call.method));
    drop(known);
    if !is_known {
        let error = nobody(shared, format!("no method {}", call.method));
        return caller.fail(shared, error);
    }
    let id = caller.ask.unwrap_or_else(|| shared.id());
    let (safe, target) = (call.idempotent, Target::Method(call.method.clone()));
    let (actor, traceparent, reply) = (caller.actor, caller.traceparent, caller.reply);
    let connection = reply.connection().cloned();
    if connection.as_ref().is_some_and(|connection| !note(connection, id)) {
        return;
    }
    let then = Box::new(move |shared: &Arc<Shared>, result| {
        connection.iter().for_each(|connection| noted(connection, id));
        match result {
            Ok(answer::Kind::Call(result)) => match check(result.data.as_ref()) {
                Ok(()) => reply.send(shared, server_message::Kind::Result(result), None),
                Err(error) => {
                    reply.fail(shared, reply::error(ErrorCode::Internal, format!("the answer's {error}")))
                }
            },
            Ok(_) => reply.fail(shared, reply::error(ErrorCode::Internal, "an answer of another kind")),
            Err(error) => reply.fail(shared, error),
        }
    });
    shared.ask(Ask { id, target, kind: ask::Kind::Call(call), actor, traceparent, safe, then });
}
