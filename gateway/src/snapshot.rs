//! All that is built from one configuration. A request holds the snapshot it began with; a reload swaps it whole.

use crate::{
    config::Config,
    edge::{browser::Browser, metrics::Metrics, metrics::RouteMetrics},
    identity::{External, Services},
    pages,
    planes::{
        channels::{Channels, ChannelsPlane},
        contract::{ContractPlane, Sockets},
        web::{Routes, Tunnels, WebPlane},
    },
    upstream::Upstreams,
};
use std::sync::{Arc, OnceLock};

/// Everything a request needs that a reload can change.
pub(crate) struct Snapshot {
    pub(crate) config: Arc<Config>,
    pub(crate) browser: Browser,
    pub(crate) external: Arc<External>,
    pub(crate) services: Services,
    pub(crate) upstreams: Upstreams,
    pub(crate) routes: Routes,
    pub(crate) web: WebPlane,
    pub(crate) contract: ContractPlane,
    /// None where the configuration has no channels.
    pub(crate) channels: Option<ChannelsPlane>,
    /// The samples that `/` shows.
    pub(crate) samples: String,
    /// The OpenAPI document, made when it is first asked for.
    pub(crate) openapi: OnceLock<pages::Document>,
    /// Requests that no route or method takes, and the gateway's own pages.
    pub(crate) own: Arc<RouteMetrics>,
}

/// What outlives reloads.
pub(crate) struct Lasting {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tunnels: Arc<Tunnels>,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) channels: Arc<Channels>,
    /// The HS256 secret in force when none is configured: the development issuer's own.
    pub(crate) dev_secret: Option<Vec<u8>>,
}

impl Lasting {
    pub(crate) fn hs256_secret<'a>(&'a self, config: &'a Config) -> Option<&'a [u8]> {
        config.identity.hs256_secret.as_ref().map(|s| s.bytes()).or(self.dev_secret.as_deref())
    }
}

impl Snapshot {
    /// Builds a snapshot; nothing runs yet and nothing of `previous` changes.
    pub(crate) fn build(
        config: Config,
        lasting: &Lasting,
        previous: Option<&Snapshot>,
    ) -> Result<Self, String> {
        let config = Arc::new(config);
        let metrics = &lasting.metrics;
        let upstreams = Upstreams::build(&config, previous.map(|p| &p.upstreams));
        let (cached, slots) = (config.limits.cached_tokens.0, upstreams.len());
        let secrets =
            config.upstreams.iter().filter_map(|(name, u)| Some((name.as_str(), u.secret.as_ref()?.bytes())));
        let services = Services::new(secrets, config.identity.leeway.0, cached, slots);
        let external =
            Arc::new(External::new(&config.identity, lasting.hs256_secret(&config), cached, slots));
        let deadlines = &config.deadlines;
        let tunnel = crate::planes::web::TunnelSettings {
            limit: config.limits.tunnels.0,
            handshake: deadlines.tunnel_handshake.0,
            idle: deadlines.tunnel_idle.0,
            max_age: deadlines.tunnel_max_age.0,
            half_close: deadlines.tunnel_half_close.0,
        };
        Ok(Self {
            browser: Browser::new(&config.public),
            channels: ChannelsPlane::build(&config, &external, metrics, &lasting.channels),
            external,
            services,
            routes: Routes::build(&config, &upstreams, metrics),
            web: WebPlane { tunnel, tunnels: Arc::clone(&lasting.tunnels) },
            contract: ContractPlane::build(&config, &upstreams, metrics, &lasting.sockets)
                .map_err(|e| e.to_string())?,
            samples: pages::samples(config.page.samples.as_deref()),
            openapi: OnceLock::new(),
            own: metrics.route("own"),
            upstreams,
            config,
        })
    }

    /// Starts what works by itself: health checks, and the hub of channels.
    pub(crate) fn start(&self) {
        self.upstreams.start();
        if let Some(channels) = &self.channels {
            channels.start();
        }
    }
}
