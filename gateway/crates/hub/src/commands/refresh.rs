//! New tokens for open sessions.

use std::sync::Arc;

use crate::connection::{Connection, State};
use crate::lock::lock;
use crate::outbox::Place;
use crate::proto::{Error, ErrorCode, server_message};
use crate::reply::{self, Reply};
use crate::shared::Shared;
use crate::{Denied, Identity};

pub(super) fn denied_error(denied: Denied) -> Error {
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
