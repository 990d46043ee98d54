//! Mints the identity that goes on to an upstream: HS256 with the secret that only the gateway and that service
//! know, bound to its name as audience, valid for at most a minute.

use super::{
    Caller,
    claims::{ForwardedClaims, Minted},
    unix_now,
};
use http::HeaderValue;
use jsonwebtoken::{EncodingKey, Header, encode};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The `iss` of minted identities and the `aud` of service tokens.
pub(super) const GATEWAY_ISSUER: &str = "hybrid-gateway";

/// Mints identities for one upstream.
pub struct Minter {
    slot: usize,
    audience: String,
    key: EncodingKey,
    ttl: Duration,
}

impl Minter {
    /// `slot` is the upstream's number: where a caller keeps what was minted for it.
    pub fn new(slot: usize, audience: &str, secret: &[u8], ttl: Duration) -> Self {
        Self { slot, audience: audience.to_owned(), key: EncodingKey::from_secret(secret), ttl }
    }

    /// The identity of `caller` for this upstream; an earlier one is used for half its life.
    pub fn identity(&self, caller: &Caller, now: Instant) -> HeaderValue {
        let slot = caller.minted.get(self.slot);
        if let Some(minted) = slot.map(arc_swap::ArcSwapAny::load).as_deref().and_then(Option::as_ref)
            && now < minted.fresh_until
        {
            return minted.value.clone();
        }
        let (value, life) = self.mint(caller);
        if let Some(slot) = slot {
            let fresh_until = now + life / 2;
            slot.store(Some(Arc::new(Minted { value: value.clone(), fresh_until })));
        }
        value
    }

    fn mint(&self, caller: &Caller) -> (HeaderValue, Duration) {
        let iat = unix_now();
        let longest = iat + self.ttl.as_secs();
        // At least a second: a token in its leeway is still served.
        let exp = caller.expires.map_or(longest, |end| longest.min(end.max(iat + 1)));
        let claims = ForwardedClaims {
            iss: GATEWAY_ISSUER.into(),
            aud: self.audience.clone(),
            sub: caller.sub.clone(),
            kind: caller.kind,
            scope: caller.scope.clone(),
            iat,
            exp,
            act: caller.act.clone(),
        };
        // HS256 over plain strings cannot fail, and a JWT is always a valid header value.
        let token = encode(&Header::default(), &claims, &self.key).unwrap_or_default();
        let mut value = HeaderValue::try_from(token).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        (value, Duration::from_secs(exp - iat))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Kind;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn claims(value: &HeaderValue, audience: &str) -> ForwardedClaims {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[audience]);
        validation.set_issuer(&["hybrid-gateway"]);
        decode(value.to_str().unwrap(), &DecodingKey::from_secret(SECRET), &validation).unwrap().claims
    }

    #[test]
    fn an_identity_is_bound_to_its_audience_and_reused_for_half_its_life() {
        let caller = Caller::new("alice".into(), Kind::User, "notes".into(), 2);
        let (ai, web) = (
            Minter::new(0, "ai", SECRET, Duration::from_secs(60)),
            Minter::new(1, "realtime", SECRET, Duration::from_secs(60)),
        );
        let now = Instant::now();
        let first = ai.identity(&caller, now);
        let read = claims(&first, "ai");
        assert_eq!((read.sub.as_str(), read.kind, read.scope.as_str()), ("alice", Kind::User, "notes"));
        assert!(read.exp - read.iat <= 60);
        claims(&web.identity(&caller, now), "realtime");
        assert_eq!(ai.identity(&caller, now + Duration::from_secs(29)), first);
        let slot = |m: &Minter| caller.minted[m.slot].load().as_ref().unwrap().fresh_until;
        let before = slot(&ai);
        ai.identity(&caller, now + Duration::from_secs(31));
        assert!(slot(&ai) > before, "minted anew after half its life");
    }

    #[test]
    fn an_identity_never_outlives_the_token_behind_it() {
        let mut caller = Caller::new("alice".into(), Kind::User, String::new(), 1);
        caller.expires = Some(unix_now() + 7);
        let minter = Minter::new(0, "ai", SECRET, Duration::from_secs(60));
        assert!(claims(&minter.identity(&caller, Instant::now()), "ai").exp <= unix_now() + 7);
    }
}
