//! Where requests go: each upstream's connections, its state by health checks, and the minter of the identity it gets.

pub mod grpc;
pub mod health;
pub mod http1;
mod timer;

use crate::{
    config::{self, Config, Protocol},
    identity::Minter,
};
use health::State;
use std::{collections::BTreeMap, sync::Arc};

/// One upstream of a configuration.
pub struct Upstream {
    /// Its name, which is also the audience of its identities.
    pub name: String,
    /// Its configuration.
    pub config: config::Upstream,
    /// Mints the identities it gets; without a secret it gets none.
    pub minter: Option<Minter>,
    /// What the health checks say. Kept over reloads while protocol and address stay.
    pub state: Arc<State>,
    /// Connections to an HTTP upstream. Kept over reloads while its settings stay.
    pub http: Option<Arc<http1::Pool>>,
    /// Connections to a gRPC upstream. Kept over reloads while its settings stay.
    pub grpc: Option<Arc<grpc::Pool>>,
}

/// All upstreams of a configuration.
pub struct Upstreams(BTreeMap<String, Arc<Upstream>>);

impl Upstreams {
    /// Builds them; what did not change is taken over from `previous`.
    pub fn build(config: &Config, previous: Option<&Upstreams>) -> Self {
        let build = |(slot, (name, upstream)): (usize, (&String, &config::Upstream))| {
            let before = previous.and_then(|p| p.get(name));
            let built = Upstream {
                name: name.clone(),
                minter: upstream
                    .secret
                    .as_ref()
                    .map(|s| Minter::new(slot, name, s.bytes(), config.identity.forwarded_ttl.0)),
                state: state(name, upstream, before),
                http: (upstream.protocol == Protocol::Http).then(|| pool(config, upstream, before)),
                grpc: (upstream.protocol == Protocol::Grpc).then(|| grpc_pool(config, upstream, before)),
                config: upstream.clone(),
            };
            (name.clone(), Arc::new(built))
        };
        Self(config.upstreams.iter().enumerate().map(build).collect())
    }

    /// The upstream called `name`.
    pub fn get(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.0.values()
    }

    /// How many there are; a caller keeps one minted identity for each.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Starts the health checks and upkeep of what was not taken over. Needs a runtime.
    pub fn start(&self) {
        for upstream in self.iter() {
            upstream.state.start();
            if let Some(pool) = &upstream.http {
                pool.start();
            }
        }
    }
}

fn state(name: &str, config: &config::Upstream, before: Option<&Arc<Upstream>>) -> Arc<State> {
    let check = health::Check {
        name: name.to_owned(),
        protocol: config.protocol,
        address: config.address.clone(),
        health: config.health.clone(),
        interval: config.health_interval.0,
    };
    match before.map(|b| &b.state).filter(|state| state.check == check) {
        Some(state) => Arc::clone(state),
        None => Arc::new(State::new(check)),
    }
}

fn pool(config: &Config, upstream: &config::Upstream, before: Option<&Arc<Upstream>>) -> Arc<http1::Pool> {
    let settings = http1::Settings {
        address: upstream.address.clone(),
        max_idle: upstream.connections.0,
        max_requests: upstream.requests.0,
        connect: config.deadlines.connect.0,
        idle: config.deadlines.upstream_idle.0,
        body_idle: config.deadlines.body_idle.0,
    };
    match before.and_then(|b| b.http.as_ref()).filter(|pool| pool.settings == settings) {
        Some(pool) => Arc::clone(pool),
        None => Arc::new(http1::Pool::new(settings)),
    }
}

fn grpc_pool(
    config: &Config,
    upstream: &config::Upstream,
    before: Option<&Arc<Upstream>>,
) -> Arc<grpc::Pool> {
    let settings = grpc::Settings {
        address: upstream.address.clone(),
        max_connections: upstream.connections.0,
        max_requests: upstream.requests.0,
        connect: config.deadlines.connect.0,
    };
    match before.and_then(|b| b.grpc.as_ref()).filter(|pool| pool.settings == settings) {
        Some(pool) => Arc::clone(pool),
        None => Arc::new(grpc::Pool::new(settings)),
    }
}
