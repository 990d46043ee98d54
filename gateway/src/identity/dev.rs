//! Signs tokens for development: `gateway token`, and the admin listener's `POST /dev/token` behind `--dev-issuer`.

use super::unix_now;
use crate::config;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use std::time::Duration;

/// Issues external tokens with the configured HS256 secret.
pub struct DevIssuer {
    issuer: String,
    audience: String,
    key: EncodingKey,
}

impl DevIssuer {
    /// An issuer with the secret that external tokens are verified with.
    pub fn new(config: &config::Identity, secret: &[u8]) -> Self {
        Self {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            key: EncodingKey::from_secret(secret),
        }
    }

    /// A token for `sub` with `scope`.
    pub fn token(
        &self,
        sub: &str,
        scope: &str,
        ttl: Duration,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let iat = unix_now();
        let claims = json!({"iss": self.issuer, "aud": self.audience, "sub": sub, "scope": scope,
            "iat": iat, "exp": iat + ttl.as_secs()});
        encode(&Header::default(), &claims, &self.key)
    }
}
