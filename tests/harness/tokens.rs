//! External tokens as the development issuer signs them, good ones and bad ones.

use std::time::SystemTime;

use anyhow::Result;
use serde_json::{Value, json};

/// All scopes that the demo's users have.
pub use xtask::token::SCOPES as ALL_SCOPES;

/// The claims of a token that is valid for an hour.
pub fn claims(subject: &str, scope: &str) -> Value {
    let now = now();
    json!({"sub": subject, "scope": scope, "iss": "hybrid-dev", "aud": "hybrid", "iat": now, "exp": now + 3600})
}

/// Signs claims with HS256.
pub fn sign(secret: &str, claims: &Value) -> Result<String> {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    Ok(jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key)?)
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
