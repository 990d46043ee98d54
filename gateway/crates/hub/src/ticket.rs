//! Tickets: what a session may go on with, signed, so that any gateway with the same key resumes it by itself.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use prost::Message;
use sha2::Sha256;

use crate::proto::Payload;
use crate::{Identity, Kind};

const TAG: usize = 32;

/// What a ticket says. Only gateways read it; new fields get new numbers, so that old and new gateways read each other's.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Claims {
    #[prost(string, tag = "1")]
    pub(crate) session: String,
    #[prost(string, tag = "2")]
    pub(crate) subject: String,
    #[prost(string, tag = "3")]
    pub(crate) kind: String,
    #[prost(string, tag = "4")]
    pub(crate) scope: String,
    /// The token's end, in seconds; 0: never.
    #[prost(uint64, tag = "5")]
    pub(crate) token_ends: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) issued_ms: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) ends_ms: u64,
    #[prost(message, optional, tag = "8")]
    pub(crate) member: Option<Payload>,
    #[prost(message, repeated, tag = "9")]
    pub(crate) grants: Vec<Grant>,
}

/// A subscription that may be gone on with.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Grant {
    #[prost(string, tag = "1")]
    pub(crate) channel: String,
    #[prost(bool, tag = "2")]
    pub(crate) read_only: bool,
    #[prost(message, optional, tag = "3")]
    pub(crate) member: Option<Payload>,
}

impl Claims {
    pub(crate) fn identity(&self) -> Identity {
        let kind = match self.kind.as_str() {
            "user" => Kind::User,
            "service" => Kind::Service,
            _ => Kind::Anonymous,
        };
        let expires = (self.token_ends > 0).then_some(self.token_ends);
        Identity { subject: self.subject.clone(), kind, scope: self.scope.clone(), expires }
    }
}

/// Why a ticket is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not signed by this key, or not a ticket at all.
    Forged,
    /// Its time is over.
    Ended,
}

/// Signs and checks.
pub(crate) struct Tickets(Hmac<Sha256>);

impl Tickets {
    /// A key of its own is derived, so that what else is signed with the secret is never a ticket.
    pub(crate) fn new(secret: &[u8]) -> Self {
        let mut derive = hmac(secret);
        derive.update(b"hybrid.channels.v1 ticket");
        Self(hmac(&derive.finalize().into_bytes()))
    }

    pub(crate) fn sign(&self, claims: &Claims) -> String {
        let mut bytes = claims.encode_to_vec();
        let tag = self.0.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&tag);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Checks the signature, in constant time, and then the end.
    pub(crate) fn check(&self, ticket: &str, now_ms: u64) -> Result<Claims, Refused> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(ticket).map_err(|_| Refused::Forged)?;
        let split = bytes.len().checked_sub(TAG).ok_or(Refused::Forged)?;
        let (claims, tag) = bytes.split_at(split);
        self.0.clone().chain_update(claims).verify_slice(tag).map_err(|_| Refused::Forged)?;
        let claims = Claims::decode(claims).map_err(|_| Refused::Forged)?;
        let token_ended = claims.token_ends > 0 && claims.token_ends.saturating_mul(1000) <= now_ms;
        if claims.ends_ms <= now_ms || token_ended { Err(Refused::Ended) } else { Ok(claims) }
    }
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    match <Hmac<Sha256> as Mac>::new_from_slice(key) {
        Ok(hmac) => hmac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            session: "s".into(),
            subject: "ann".into(),
            kind: "user".into(),
            ends_ms: 100,
            ..Claims::default()
        }
    }

    #[test]
    fn a_ticket_is_good_until_its_end() {
        let tickets = Tickets::new(b"key");
        let ticket = tickets.sign(&claims());
        assert_eq!(tickets.check(&ticket, 99), Ok(claims()));
        assert_eq!(tickets.check(&ticket, 100), Err(Refused::Ended));
    }

    #[test]
    fn a_ticket_ends_with_its_token() {
        let tickets = Tickets::new(b"key");
        let ticket = tickets.sign(&Claims { token_ends: 1, ends_ms: 9_000, ..claims() });
        assert!(tickets.check(&ticket, 999).is_ok());
        assert_eq!(tickets.check(&ticket, 1_000), Err(Refused::Ended));
    }

    #[test]
    fn what_is_changed_or_signed_by_another_key_is_refused() {
        let tickets = Tickets::new(b"key");
        assert_eq!(Tickets::new(b"other").check(&tickets.sign(&claims()), 0), Err(Refused::Forged));
        for bad in ["", "x", "AAAA", "ü"] {
            assert_eq!(tickets.check(bad, 0), Err(Refused::Forged), "{bad}");
        }
        let good = BASE64_URL_SAFE_NO_PAD.decode(tickets.sign(&claims())).expect("base64");
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 1;
            assert_eq!(tickets.check(&BASE64_URL_SAFE_NO_PAD.encode(bad), 0), Err(Refused::Forged));
        }
    }
}
