//! Verifies services on the internal listener: a short token signed with the service's own secret, and optionally
//! the identity it was given, when it acts for the user whose request it is serving.

use super::{
    AuthError, Caller, Kind,
    cache::TokenCache,
    claims::{ForwardedClaims, ServiceClaims},
    mint::GATEWAY_ISSUER,
    unix_now,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, dangerous::insecure_decode_claims, decode};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// A service's token is valid for at most this long.
const LONGEST_TTL: u64 = 60;

/// Verifies service tokens.
pub struct Services {
    keys: HashMap<String, DecodingKey>,
    leeway: u64,
    slots: usize,
    cache: TokenCache,
}

impl Services {
    /// `secrets` are the services' names with what they share with the gateway.
    pub fn new<'a>(
        secrets: impl Iterator<Item = (&'a str, &'a [u8])>,
        leeway: Duration,
        cached: usize,
        slots: usize,
    ) -> Self {
        let keys =
            secrets.map(|(name, secret)| (name.to_owned(), DecodingKey::from_secret(secret))).collect();
        Self { keys, leeway: leeway.as_secs(), slots, cache: TokenCache::new(cached) }
    }

    /// The caller behind a service's token, or the user whose identity (`on_behalf_of`) it brings.
    pub fn verify(
        &self,
        token: &str,
        on_behalf_of: Option<&str>,
        now: Instant,
    ) -> Result<Arc<Caller>, AuthError> {
        let joined;
        let key = match on_behalf_of {
            None => token,
            Some(identity) => {
                joined = format!("{token}\n{identity}");
                &joined
            }
        };
        if let Some(caller) = self.cache.get(key, now) {
            return Ok(caller);
        }
        let (mut caller, mut expires) = self.service(token)?;
        if let Some(identity) = on_behalf_of {
            let name = caller.sub.trim_start_matches("service:").to_owned();
            caller = self.subject(&name, identity)?;
            expires = expires.min(caller.expires.unwrap_or(expires));
        }
        let caller = Arc::new(caller);
        let left = Duration::from_secs(expires.saturating_sub(unix_now()));
        self.cache.put(key, Arc::clone(&caller), now + left, now);
        Ok(caller)
    }

    fn service(&self, token: &str) -> Result<(Caller, u64), AuthError> {
        // The name says only which secret to check with; nothing else of the unverified claims is used.
        let name = insecure_decode_claims::<ServiceClaims>(token)?.iss;
        let key = self.keys.get(&name).ok_or(AuthError::Invalid)?;
        let claims: ServiceClaims = decode(token, key, &self.validation(&name, GATEWAY_ISSUER))?.claims;
        if claims.exp.saturating_sub(claims.iat) > LONGEST_TTL || claims.iat > unix_now() + self.leeway {
            return Err(AuthError::Invalid);
        }
        let caller = Caller::new(format!("service:{name}"), Kind::Service, String::new(), self.slots);
        Ok((caller, claims.exp))
    }

    fn subject(&self, service: &str, identity: &str) -> Result<Caller, AuthError> {
        let key = self.keys.get(service).ok_or(AuthError::Invalid)?;
        let claims: ForwardedClaims =
            decode(identity, key, &self.validation(GATEWAY_ISSUER, service))?.claims;
        let mut caller = Caller::new(claims.sub, claims.kind, claims.scope, self.slots);
        caller.act = Some(format!("service:{service}"));
        caller.expires = Some(claims.exp);
        Ok(caller)
    }

    fn validation(&self, issuer: &str, audience: &str) -> Validation {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = self.leeway;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Minter;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    const NODE: &[u8] = b"node-node-node-node-node-node-node";
    const AI: &[u8] = b"ai-ai-ai-ai-ai-ai-ai-ai-ai-ai-ai-ai";

    fn services() -> Services {
        let secrets = [("realtime", NODE), ("ai", AI)];
        Services::new(secrets.into_iter(), Duration::from_secs(5), 10, 2)
    }

    fn token(name: &str, secret: &[u8], ttl: u64) -> String {
        let claims =
            json!({"iss": name, "aud": "hybrid-gateway", "iat": unix_now(), "exp": unix_now() + ttl});
        encode(&Header::default(), &claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    #[test]
    fn a_service_is_itself_with_its_own_secret_only() {
        let services = services();
        let caller = services.verify(&token("realtime", NODE, 30), None, Instant::now()).unwrap();
        assert_eq!((caller.sub.as_str(), caller.kind), ("service:realtime", Kind::Service));
        assert!(services.verify(&token("realtime", AI, 30), None, Instant::now()).is_err());
        assert!(services.verify(&token("nobody", NODE, 30), None, Instant::now()).is_err());
        assert!(
            services.verify(&token("realtime", NODE, 3600), None, Instant::now()).is_err(),
            "too long a life"
        );
    }

    #[test]
    fn acting_for_a_user_needs_the_identity_that_was_given_to_that_service() {
        let services = services();
        let user = Caller::new("alice".into(), Kind::User, "notes".into(), 2);
        let ttl = Duration::from_secs(60);
        let for_node = Minter::new(0, "realtime", NODE, ttl).identity(&user, Instant::now());
        let for_ai = Minter::new(1, "ai", AI, ttl).identity(&user, Instant::now());
        let service = token("realtime", NODE, 30);
        let caller = services.verify(&service, for_node.to_str().ok(), Instant::now()).unwrap();
        assert_eq!(
            (caller.sub.as_str(), caller.kind, caller.act.as_deref()),
            ("alice", Kind::User, Some("service:realtime"))
        );
        assert!(
            services.verify(&service, for_ai.to_str().ok(), Instant::now()).is_err(),
            "an identity for another service"
        );
    }
}
