//! Channels: clients' sockets and event streams, plain publish and history, and the link over which an application
//! decides. The hub crate does what is between the two; this plane carries it over HTTP.
//!
//! `find` says what a request means, and who may ask for it; the edge checks that and then has it called.

mod conversation;
mod event;
mod events;
mod frame;
mod identity;
mod link;
mod metrics;
mod plain;
mod problems;
mod query;
mod settings;
mod socket;
mod write;

use crate::{
    config::{self, Config, RouteAccess},
    edge::{
        Body, Context, Level, Listener, Problem, Rule, metrics::Metrics, metrics::RouteMetrics,
        problem::Style,
    },
    identity::External,
};
use ::hub::Hub;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use identity::Tokens;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicU64},
    time::Duration,
};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// Where the link's stream is opened.
const LINK: &str = "/hybrid.channels.v1.LinkService/Attach";
/// A drain tells so many connections a second to leave, unless its bound asks for more.
const LEAVING_PER_SECOND: u64 = 1_000;

/// What outlives reloads: the hub with all that is connected.
#[derive(Default)]
pub struct Channels {
    /// Made when the configuration first has channels.
    hub: OnceLock<Hub>,
    tokens: Arc<Tokens>,
    sockets: Mutex<HashMap<u64, AbortHandle>>,
    next: AtomicU64,
    /// Ends all links.
    stop: CancellationToken,
}

impl Channels {
    /// How many sockets are open.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Refuses new connections, and tells the open ones to go elsewhere, spread over a part of `within`.
    pub fn drain(&self, within: Duration) {
        let Some(hub) = self.hub.get() else { return self.leave() };
        let connections = hub.stats().connections;
        hub.drain(within.min(Duration::from_millis(connections * 1_000 / LEAVING_PER_SECOND)));
    }

    /// Ends the links once no connection needs them, or at once.
    pub fn release(&self, at_once: bool) {
        if at_once || self.hub.get().is_none_or(|hub| hub.stats().connections == 0) {
            self.leave();
        }
    }

    fn leave(&self) {
        self.stop.cancel();
    }

    /// Ends all sockets, whatever they do.
    pub fn abort(&self) {
        self.lock().values().for_each(AbortHandle::abort);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, AbortHandle>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Channels as one configuration has them.
pub struct ChannelsPlane {
    channels: Arc<Channels>,
    settings: ::hub::Settings,
    external: Arc<External>,
    /// What tickets are signed with.
    secret: Vec<u8>,
    path: String,
    services: Arc<[String]>,
    rule: Arc<Rule>,
    link_rule: Arc<Rule>,
    limits: Limits,
    /// Of each endpoint, in their order.
    metrics: [Arc<RouteMetrics>; 5],
}

/// The configuration's bounds that this plane keeps itself.
#[derive(Clone, Copy)]
struct Limits {
    frame_bytes: usize,
    write_timeout: Duration,
    heartbeat: Duration,
    response: Duration,
    body_bytes: usize,
}

/// What there is to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    WebSocket,
    Events,
    Publish,
    History,
    Link,
}

const ENDPOINTS: [Endpoint; 5] =
    [Endpoint::WebSocket, Endpoint::Events, Endpoint::Publish, Endpoint::History, Endpoint::Link];

impl Endpoint {
    fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Events => "events",
            Self::Publish => "publish",
            Self::History => "history",
            Self::Link => "link",
        }
    }

    fn method(self) -> Method {
        match self {
            Self::Publish | Self::Link => Method::POST,
            _ => Method::GET,
        }
    }
}

/// What a request means to this plane.
pub enum Lookup {
    /// An endpoint.
    Found(Target),
    /// The path has another method: this, for `Allow`.
    MethodNotAllowed(String),
    /// Nothing.
    NotFound,
}

/// A request's endpoint, and what the edge has to know of it.
pub struct Target {
    /// Who may ask.
    pub rule: Arc<Rule>,
    /// The endpoint's metrics.
    pub metrics: Arc<RouteMetrics>,
    /// Whether `?access_token=` is taken: where a browser cannot set headers.
    pub query_token: bool,
    /// Whether it opens a WebSocket.
    pub websocket: bool,
    /// Until the response's head.
    pub budget: Duration,
    endpoint: Endpoint,
}

impl ChannelsPlane {
    /// Channels, where the configuration has them. Nothing runs before `start`.
    pub fn build(
        config: &Config,
        external: &Arc<External>,
        metrics: &Metrics,
        channels: &Arc<Channels>,
    ) -> Option<Self> {
        let own = config.channels.as_ref()?;
        let first = own.services.0.first().and_then(|name| config.upstreams.get(name)?.secret.as_ref())?;
        let link_rule = Rule { level: Level::Internal, scopes: vec![] };
        Some(Self {
            channels: Arc::clone(channels),
            settings: settings::settings(own),
            external: Arc::clone(external),
            secret: first.bytes().to_vec(),
            path: own.path.clone(),
            services: own.services.0.clone().into(),
            rule: Arc::new(rule(own)),
            link_rule: Arc::new(link_rule),
            limits: Limits::of(config, own),
            metrics: ENDPOINTS.map(|endpoint| metrics.route(&format!("channels.{}", endpoint.name()))),
        })
    }

    /// Starts the hub, or tells the one that runs what counts from now on. Must run inside a runtime.
    pub fn start(&self) {
        self.channels.tokens.verify_by(&self.external);
        let tokens = Arc::clone(&self.channels.tokens);
        let new = || Hub::new(self.settings.clone(), &self.secret, tokens);
        self.channels.hub.get_or_init(new).configure(self.settings.clone());
    }

    /// Which endpoint a request means.
    pub fn find<B>(&self, request: &Request<B>, listener: Listener) -> Lookup {
        let path = request.uri().path();
        let endpoint = match path.strip_prefix(&self.path).and_then(|rest| rest.strip_prefix('/')) {
            Some("websocket") => Endpoint::WebSocket,
            Some("events") => Endpoint::Events,
            Some("publish") => Endpoint::Publish,
            Some("history") => Endpoint::History,
            _ if path == LINK && listener == Listener::Internal => Endpoint::Link,
            _ => return Lookup::NotFound,
        };
        if endpoint == Endpoint::Link && Style::of(request.headers()) != Style::Grpc {
            return Lookup::NotFound;
        }
        match request.method() == endpoint.method() {
            true => Lookup::Found(self.target(endpoint)),
            false => Lookup::MethodNotAllowed(format!("{}, OPTIONS", endpoint.method())),
        }
    }

    fn target(&self, endpoint: Endpoint) -> Target {
        let socket = endpoint == Endpoint::WebSocket;
        let rule = if endpoint == Endpoint::Link { &self.link_rule } else { &self.rule };
        Target {
            rule: Arc::clone(rule),
            metrics: Arc::clone(&self.metrics[endpoint as usize]),
            query_token: socket || endpoint == Endpoint::Events,
            websocket: socket,
            budget: self.limits.response,
            endpoint,
        }
    }

    /// Answers. The access rule has been checked, and the context's deadline is set from the budget.
    pub async fn call(
        &self,
        context: &Context,
        target: Target,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Problem> {
        // A plane answers requests only after it was started.
        let hub = self.channels.hub.get().ok_or_else(problems::stopping)?;
        match target.endpoint {
            Endpoint::WebSocket => socket::serve(&self.channels, hub, self.limits, request, context),
            Endpoint::Events => events::serve(hub, self.limits, &request, context).await,
            Endpoint::Publish => plain::publish(hub, self.limits, request, context).await,
            Endpoint::History => plain::history(hub, &request, context).await,
            Endpoint::Link => link::serve(hub, &self.services, &self.channels.stop, request, context).await,
        }
    }
}

fn rule(own: &config::Channels) -> Rule {
    let level = match own.access {
        RouteAccess::Public => Level::Public,
        RouteAccess::Authenticated => Level::Authenticated,
        RouteAccess::Internal => Level::Internal,
    };
    Rule { level, scopes: own.scopes.0.clone() }
}

impl Limits {
    fn of(config: &Config, own: &config::Channels) -> Self {
        let bytes = |size: config::ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
        Self {
            frame_bytes: bytes(own.frame_bytes),
            write_timeout: own.write_timeout.0,
            heartbeat: own.heartbeat.0,
            response: config.deadlines.response.0,
            body_bytes: bytes(own.frame_bytes).min(bytes(config.limits.body_bytes)),
        }
    }
}
