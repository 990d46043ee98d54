//! Who connects, in the hub's terms, and the verification of tokens that come inside commands.

use crate::identity::{AuthError, Caller, External, Kind};
use arc_swap::ArcSwapOption;
use hub::{Authenticate, Authenticated, Denied, Identity};
use std::{sync::Arc, time::Instant};

/// Verifies by the configuration in force.
#[derive(Default)]
pub(super) struct Tokens(ArcSwapOption<External>);

impl Tokens {
    pub(super) fn verify_by(&self, external: &Arc<External>) {
        self.0.store(Some(Arc::clone(external)));
    }
}

impl Authenticate for Tokens {
    fn authenticate<'a>(&'a self, token: &'a str) -> Authenticated<'a> {
        Box::pin(async move {
            let external = self.0.load_full().ok_or(Denied::Invalid)?;
            let caller = match external.cached(token, Instant::now()) {
                Some(caller) => caller,
                None => external.verify(token).await.map_err(denied)?,
            };
            Ok(of(&caller))
        })
    }
}

fn denied(error: AuthError) -> Denied {
    match error {
        AuthError::Expired => Denied::Expired,
        AuthError::Invalid => Denied::Invalid,
    }
}

/// A verified caller as the hub knows it.
pub(super) fn of(caller: &Caller) -> Identity {
    Identity {
        subject: caller.sub.clone(),
        kind: match caller.kind {
            Kind::User => hub::Kind::User,
            Kind::Service => hub::Kind::Service,
            Kind::Anonymous => hub::Kind::Anonymous,
        },
        scope: caller.scope.clone(),
        expires: caller.expires(),
    }
}
