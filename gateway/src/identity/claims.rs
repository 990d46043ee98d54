//! The verified caller of a request, with its minted identities kept beside it.

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// What kind of caller it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A person or program outside, with a token.
    User,
    /// A service of the stack, for itself.
    Service,
    /// Nobody in particular.
    Anonymous,
}

/// A verified caller. Shared by all requests that carry the same token.
#[derive(Debug)]
pub struct Caller {
    /// `alice`, `service:realtime` or `anonymous`.
    pub sub: String,
    /// What kind of caller it is.
    pub kind: Kind,
    /// Granted scopes, separated by spaces, as the token has them.
    pub scope: String,
    /// The service that acts for it.
    pub act: Option<String>,
    /// When the token ends (Unix seconds); a minted identity never outlives it.
    pub(super) expires: Option<u64>,
    /// One slot for each upstream: the identity minted last.
    pub(super) minted: Box<[ArcSwapOption<Minted>]>,
}

#[derive(Debug)]
pub(super) struct Minted {
    pub(super) value: HeaderValue,
    pub(super) fresh_until: Instant,
}

impl Caller {
    pub(super) fn new(sub: String, kind: Kind, scope: String, slots: usize) -> Self {
        let minted = (0..slots).map(|_| ArcSwapOption::empty()).collect();
        Self { sub, kind, scope, act: None, expires: None, minted }
    }

    /// The caller of a request without a token.
    pub fn anonymous(slots: usize) -> Self {
        Self::new("anonymous".into(), Kind::Anonymous, String::new(), slots)
    }

    /// When the token ends, in seconds since the Unix epoch; none: with each request's own.
    pub fn expires(&self) -> Option<u64> {
        self.expires
    }

    /// Whether every one of `scopes` was granted.
    pub fn has_scopes<S: AsRef<str>>(&self, scopes: &[S]) -> bool {
        scopes.iter().all(|wanted| self.scope.split(' ').any(|granted| granted == wanted.as_ref()))
    }
}

/// Claims of a token from outside.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ExternalClaims {
    pub(super) sub: String,
    #[serde(default)]
    pub(super) scope: String,
    pub(super) exp: u64,
}

/// Claims of the identity that the gateway passes on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ForwardedClaims {
    pub(super) iss: String,
    pub(super) aud: String,
    pub(super) sub: String,
    pub(super) kind: Kind,
    #[serde(default)]
    pub(super) scope: String,
    pub(super) iat: u64,
    pub(super) exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) act: Option<String>,
}

/// Claims of a service's own token.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ServiceClaims {
    pub(super) iss: String,
    pub(super) iat: u64,
    pub(super) exp: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_whole_words() {
        let caller = Caller::new("alice".into(), Kind::User, "notes text.embed".into(), 0);
        assert!(caller.has_scopes(&["notes", "text.embed"]));
        assert!(caller.has_scopes::<&str>(&[]));
        assert!(!caller.has_scopes(&["text"]));
        assert!(!caller.has_scopes(&["notes", "assistant.chat"]));
    }
}
