//! Who connects, and how a token that comes inside a command is verified.

use std::{future::Future, pin::Pin};

/// Who a connection belongs to, as the gateway verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The token's subject, or `anonymous`.
    pub subject: String,
    /// What kind of caller it is.
    pub kind: Kind,
    /// The token's scopes, separated by spaces.
    pub scope: String,
    /// When the token ends, in seconds since the Unix epoch; none: never.
    pub expires: Option<u64>,
}

impl Identity {
    /// Who connects without a token.
    pub fn anonymous() -> Self {
        Self { subject: "anonymous".into(), kind: Kind::Anonymous, scope: String::new(), expires: None }
    }
}

/// Kinds of callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A person, by an access token.
    User,
    /// A service, by its own token.
    Service,
    /// Nobody is known.
    Anonymous,
}

impl Kind {
    /// As the application is told: `user`, `service` or `anonymous`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
            Self::Anonymous => "anonymous",
        }
    }
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It is not one, or not signed by a known key.
    Invalid,
    /// It was good and has ended.
    Expired,
}

/// What [`Authenticate::authenticate`] gives.
pub type Authenticated<'a> = Pin<Box<dyn Future<Output = Result<Identity, Denied>> + Send + 'a>>;

/// Verifies access tokens that come inside Connect and Refresh.
pub trait Authenticate: Send + Sync + 'static {
    /// Who the token speaks for.
    fn authenticate<'a>(&'a self, token: &'a str) -> Authenticated<'a>;
}
