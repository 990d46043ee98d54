//! An issuer's public keys: fetched when an unknown key is named, at most once within an interval, and kept when
//! the issuer cannot be reached.

use arc_swap::ArcSwap;
use jsonwebtoken::{DecodingKey, jwk::JwkSet};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// After this many intervals keys are fetched again though all are known, so that a withdrawn one goes.
const STALE_INTERVALS: u32 = 10;

pub(super) struct Jwks {
    url: String,
    interval: Duration,
    keys: ArcSwap<Keys>,
    /// Held during a fetch, so that a burst of unknown keys makes one request.
    attempted: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, DecodingKey>,
    only: Option<DecodingKey>,
    fetched: Option<Instant>,
}

impl Jwks {
    pub(super) fn new(url: String, interval: Duration) -> Self {
        Self { url, interval, keys: ArcSwap::default(), attempted: Mutex::default() }
    }

    /// The key named `kid`; without a name, the only key there is.
    pub(super) async fn key(self: &Arc<Self>, kid: Option<&str>) -> Option<DecodingKey> {
        let keys = self.keys.load_full();
        if let Some(key) = keys.find(kid) {
            if keys.fetched.is_some_and(|at| at.elapsed() > self.interval * STALE_INTERVALS) {
                let this = Arc::clone(self);
                tokio::spawn(async move { this.refresh().await });
            }
            return Some(key);
        }
        self.refresh().await;
        self.keys.load().find(kid)
    }

    async fn refresh(&self) {
        let mut attempted = self.attempted.lock().await;
        if attempted.is_some_and(|at| at.elapsed() < self.interval) {
            return;
        }
        *attempted = Some(Instant::now());
        match fetch(&self.url).await {
            Ok(keys) => self.keys.store(Arc::new(keys)),
            Err(error) => {
                tracing::warn!(url = %self.url, %error, "the issuer's keys cannot be fetched; the known ones stay")
            }
        }
    }
}

impl Keys {
    fn find(&self, kid: Option<&str>) -> Option<DecodingKey> {
        match kid {
            Some(kid) => self.by_id.get(kid).cloned(),
            None => self.only.clone(),
        }
    }
}

async fn fetch(url: &str) -> anyhow::Result<Keys> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
    let set: JwkSet = client.get(url).send().await?.error_for_status()?.json().await?;
    let mut keys = Keys { fetched: Some(Instant::now()), ..Keys::default() };
    let mut usable = Vec::new();
    for jwk in &set.keys {
        // Symmetric keys have no place in a public document.
        let symmetric = matches!(jwk.algorithm, jsonwebtoken::jwk::AlgorithmParameters::OctetKey(_));
        let Some(key) = DecodingKey::from_jwk(jwk).ok().filter(|_| !symmetric) else { continue };
        if let Some(kid) = &jwk.common.key_id {
            keys.by_id.insert(kid.clone(), key.clone());
        }
        usable.push(key);
    }
    keys.only = (usable.len() == 1).then(|| usable.remove(0));
    Ok(keys)
}
