//! Verifies the tokens that clients bring: HS256 with a configured secret, or keys published by an issuer (JWKS).

use super::{Caller, Kind, cache::TokenCache, claims::ExternalClaims, jwks::Jwks, unix_now};
use crate::config;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, errors::ErrorKind};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It was valid once.
    #[error("the token has expired")]
    Expired,
    /// Its signature, issuer, audience or form is wrong.
    #[error("the token is not valid")]
    Invalid,
}

impl From<jsonwebtoken::errors::Error> for AuthError {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        match error.kind() {
            ErrorKind::ExpiredSignature => Self::Expired,
            _ => Self::Invalid,
        }
    }
}

/// Verifies external tokens.
pub struct External {
    hs256: Option<DecodingKey>,
    jwks: Option<Arc<Jwks>>,
    validation: Validation,
    slots: usize,
    cache: TokenCache,
    anonymous: Arc<Caller>,
}

impl External {
    /// `secret` is the HS256 secret in force (the configured one, or the development issuer's); `slots` is the number of upstreams.
    pub fn new(config: &config::Identity, secret: Option<&[u8]>, cached: usize, slots: usize) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = config.leeway.0.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&config.issuer]);
        validation.set_audience(&[&config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Self {
            hs256: secret.map(DecodingKey::from_secret),
            jwks: config.jwks_url.as_ref().map(|url| Arc::new(Jwks::new(url.clone(), config.jwks_refresh.0))),
            validation,
            slots,
            cache: TokenCache::new(cached),
            anonymous: Arc::new(Caller::anonymous(slots)),
        }
    }

    /// The caller of requests without a token.
    pub fn anonymous(&self) -> Arc<Caller> {
        Arc::clone(&self.anonymous)
    }

    /// The caller of a token that was verified before.
    pub fn cached(&self, token: &str, now: Instant) -> Option<Arc<Caller>> {
        self.cache.get(token, now)
    }

    /// Verifies a token and remembers the result until it ends.
    pub async fn verify(&self, token: &str) -> Result<Arc<Caller>, AuthError> {
        let algorithm = decode_header(token)?.alg;
        let claims = match algorithm {
            Algorithm::HS256 => {
                self.check(token, self.hs256.as_ref().ok_or(AuthError::Invalid)?, algorithm)?
            }
            Algorithm::HS384 | Algorithm::HS512 => return Err(AuthError::Invalid),
            _ => {
                let jwks = self.jwks.as_ref().ok_or(AuthError::Invalid)?;
                let key = jwks.key(decode_header(token)?.kid.as_deref()).await.ok_or(AuthError::Invalid)?;
                self.check(token, &key, algorithm)?
            }
        };
        let mut caller = Caller::new(claims.sub, Kind::User, claims.scope, self.slots);
        caller.expires = Some(claims.exp);
        let caller = Arc::new(caller);
        let (now, left) = (Instant::now(), claims.exp.saturating_sub(unix_now()));
        // A day at most, so that a far `exp` cannot overflow the clock.
        self.cache.put(token, Arc::clone(&caller), now + Duration::from_secs(left.min(86_400)), now);
        Ok(caller)
    }

    fn check(
        &self,
        token: &str,
        key: &DecodingKey,
        algorithm: Algorithm,
    ) -> Result<ExternalClaims, AuthError> {
        let mut validation = self.validation.clone();
        validation.algorithms = vec![algorithm];
        let claims = decode::<ExternalClaims>(token, key, &validation)?.claims;
        // Reserved names: a token from outside must never pass for a service, for nobody or for everybody.
        let reserved =
            matches!(claims.sub.as_str(), "" | "anonymous" | "*") || claims.sub.starts_with("service:");
        if reserved { Err(AuthError::Invalid) } else { Ok(claims) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn external() -> External {
        External::new(&config::Identity::default(), Some(SECRET), 10, 1)
    }

    fn token(change: impl FnOnce(&mut Value), secret: &[u8]) -> String {
        let mut claims = json!({"sub": "alice", "scope": "notes", "iss": "hybrid-dev", "aud": "hybrid",
            "iat": unix_now(), "exp": unix_now() + 60});
        change(&mut claims);
        encode(&Header::default(), &claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    #[tokio::test]
    async fn a_good_token_is_verified_once_and_remembered() {
        let (external, good) = (external(), token(|_| (), SECRET));
        assert!(external.cached(&good, Instant::now()).is_none());
        let caller = external.verify(&good).await.unwrap();
        assert_eq!((caller.sub.as_str(), caller.kind), ("alice", Kind::User));
        assert!(external.cached(&good, Instant::now()).is_some());
        assert!(external.cached(&good, Instant::now() + Duration::from_secs(61)).is_none());
    }

    #[tokio::test]
    async fn forged_expired_foreign_and_reserved_tokens_are_refused() {
        let external = external();
        let refused = async |t: String| external.verify(&t).await.unwrap_err();
        assert_eq!(refused(token(|_| (), b"another-secret-another-secret-xx")).await, AuthError::Invalid);
        assert_eq!(refused(token(|c| c["exp"] = json!(unix_now() - 60), SECRET)).await, AuthError::Expired);
        for (claim, value) in [
            ("iss", json!("someone")),
            ("aud", json!("other")),
            ("sub", json!("service:realtime")),
            ("sub", json!("anonymous")),
            ("sub", json!("*")),
            ("exp", Value::Null),
        ] {
            assert_eq!(refused(token(|c| c[claim] = value, SECRET)).await, AuthError::Invalid, "{claim}");
        }
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.";
        assert_eq!(refused(none.into()).await, AuthError::Invalid);
    }
}
