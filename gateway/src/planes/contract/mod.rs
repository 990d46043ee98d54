//! The AI and data plane: methods of protobuf contracts, reached as JSON over HTTP by their `google.api.http` rules,
//! as event streams, and as native gRPC, gRPC-Web and Connect. It knows no method by name; the descriptors say everything.
//!
//! `find` says which method a request means, and who may call it; the edge checks that and then has it called.

mod accept;
mod coding;
mod connect;
mod events;
mod form;
mod grpc_web;
mod headers;
mod heads;
mod inbound;
mod lines;
mod messages;
mod native;
mod piped;
mod problems;
mod pulse;
mod read;
mod request;
mod socket;
mod stream;
mod unary;
mod unsent;
mod upload;
mod websocket;
mod wire;

pub use websocket::Sockets;

use crate::{
    config::{Config, UnknownFields},
    edge::{
        self, Body, Context, Level, Listener, Problem, Rule, linger::Lingering, metrics::Metrics,
        metrics::RouteMetrics, problem::Style,
    },
    upstream::{Upstream, Upstreams, grpc},
};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use std::{collections::HashMap, sync::Arc, time::Duration};
use transcode::{Access, Contract, Matched, Routed, Unknown};

/// All contracts of a configuration. A reload builds another one and swaps it; calls under way keep theirs.
pub struct ContractPlane {
    contract: Contract,
    sockets: Arc<Sockets>,
    /// By gRPC path; methods that nobody can reach are not in it.
    endpoints: HashMap<String, Arc<Endpoint>>,
}

/// Why contracts cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// They do not compile.
    #[error("contracts.paths: {0}")]
    Load(#[from] transcode::LoadError),
    /// A package of the configuration has no method.
    #[error("contracts.packages.\"{0}\": no contract defines a service in this package")]
    UnknownPackage(String),
    /// A method asks for more time than the configuration allows.
    #[error(
        "{method}: hybrid.options.v1.timeout: max_seconds is {}: expected at most {}, which is contracts.max_timeout",
        asked.as_secs_f64(), allowed.as_secs_f64()
    )]
    Timeout {
        /// Its full name, after its file and line where they are known.
        method: String,
        /// What the contract says.
        asked: Duration,
        /// What the configuration says.
        allowed: Duration,
    },
}

/// A method that can be reached.
pub(crate) struct Endpoint {
    method: Arc<transcode::Method>,
    rule: Arc<Rule>,
    metrics: Arc<RouteMetrics>,
    upstream: Arc<Upstream>,
    pool: Arc<grpc::Pool>,
    limits: Limits,
}

/// The configuration's bounds that calls keep to.
#[derive(Clone, Copy)]
struct Limits {
    body_bytes: u64,
    response: Duration,
    first_event: Duration,
    heartbeat: Duration,
    stream_idle: Duration,
    stream_max_age: Duration,
    sockets: usize,
}

/// What a request means to this plane.
pub enum Lookup {
    /// A method.
    Found(Target),
    /// The path exists under other HTTP methods: these, for `Allow`.
    MethodNotAllowed(String),
    /// Nothing.
    NotFound,
}

/// A request's method, the way it was named, and what the edge has to know of it.
pub struct Target {
    /// Who may call it.
    pub rule: Arc<Rule>,
    /// The method's metrics.
    pub metrics: Arc<RouteMetrics>,
    /// Whether `?access_token=` is taken: for event streams by `GET`, where a browser cannot set headers.
    pub query_token: bool,
    /// The longest that the call may take: until the response of a unary method, until the end of a stream.
    pub budget: Duration,
    /// The caller's protocol, in which errors are written too.
    pub style: Style,
    endpoint: Arc<Endpoint>,
    /// The HTTP binding; none where the path names the method itself.
    matched: Option<Matched>,
    /// The request asks for a WebSocket, and gets one.
    pub websocket: bool,
}

impl ContractPlane {
    /// Compiles the contracts and connects each package to its upstream. Blocking: reads files.
    pub fn build(
        config: &Config,
        upstreams: &Upstreams,
        metrics: &Metrics,
        sockets: &Arc<Sockets>,
    ) -> Result<Self, BuildError> {
        let unknown = match config.contracts.unknown_fields {
            UnknownFields::Refuse => Unknown::Refused,
            UnknownFields::Ignore => Unknown::Ignored,
        };
        let contract = Contract::compile(&config.contracts.paths.0, unknown)?;
        check_timeouts(&contract, config.contracts.max_timeout.0)?;
        let packages = &config.contracts.packages;
        let unknown =
            packages.keys().find(|package| !contract.methods().iter().any(|m| m.package() == **package));
        if let Some(package) = unknown {
            return Err(BuildError::UnknownPackage(package.clone()));
        }
        let limits = Limits::of(config);
        let endpoint = |method: &Arc<transcode::Method>| {
            let upstream = upstreams.get(packages.get(method.package())?)?;
            let rule = Arc::new(rule(method.access())?);
            let endpoint = Endpoint {
                method: Arc::clone(method),
                rule,
                metrics: metrics.route(method.full_name()),
                pool: Arc::clone(upstream.grpc.as_ref()?),
                upstream: Arc::clone(upstream),
                limits,
            };
            Some((method.grpc_path().as_str().to_owned(), Arc::new(endpoint)))
        };
        let endpoints: HashMap<_, _> = contract.methods().iter().filter_map(endpoint).collect();
        for method in contract.methods().iter().filter(|m| !endpoints.contains_key(m.grpc_path().as_str())) {
            if packages.contains_key(method.package()) && *method.access() == Access::Denied {
                tracing::warn!("{}: not reachable, since it has no access rule", method.place());
            } else {
                tracing::debug!("{}: not reachable, since its package has no gRPC upstream", method.place());
            }
        }
        Ok(Self { contract, sockets: Arc::clone(sockets), endpoints })
    }

    /// Which method a request means. `listener` is where it came in.
    pub fn find<B>(&self, request: &Request<B>, listener: Listener) -> Lookup {
        let path = request.uri().path();
        let style = Style::of(request.headers());
        if style != Style::Document {
            let endpoint = self.endpoints.get(path).filter(|_| request.method() == Method::POST);
            return endpoint.map_or(Lookup::NotFound, |endpoint| Lookup::Found(Target::rpc(endpoint, style)));
        }
        if request.method() == Method::GET
            && edge::websocket::is_asked(request)
            && let Some(target) = self.find_socket(path)
        {
            return Lookup::Found(target);
        }
        match self.contract.route(request.method(), path) {
            Routed::Matched(matched) => match self.endpoints.get(matched.method().grpc_path().as_str()) {
                Some(endpoint) => Lookup::Found(Target::new(endpoint, Some(matched))),
                None => Lookup::NotFound,
            },
            Routed::MethodNotAllowed { allow } => {
                // What nobody can reach is not hinted at either.
                let internal = listener == Listener::Internal;
                let reachable = allow.iter().filter(|verb| match self.contract.route(verb, path) {
                    Routed::Matched(matched) => {
                        let endpoint = self.endpoints.get(matched.method().grpc_path().as_str());
                        endpoint.is_some_and(|endpoint| internal || endpoint.rule.level != Level::Internal)
                    }
                    _ => false,
                });
                match reachable.map(Method::as_str).collect::<Vec<_>>().join(", ") {
                    none if none.is_empty() => Lookup::NotFound,
                    allow => Lookup::MethodNotAllowed(allow + ", OPTIONS"),
                }
            }
            Routed::NotFound => match self.endpoints.get(path) {
                Some(endpoint) if connect::is_meant(request) => {
                    Lookup::Found(Target::rpc(endpoint, Style::ConnectUnary))
                }
                _ => Lookup::NotFound,
            },
        }
    }

    /// A handshake is a GET whatever the method's binding is; the first binding of a streaming method counts.
    fn find_socket(&self, path: &str) -> Option<Target> {
        let verbs = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        verbs.iter().find_map(|verb| {
            let Routed::Matched(matched) = self.contract.route(verb, path) else { return None };
            let method = matched.method();
            let streams = method.is_server_streaming() || method.is_client_streaming();
            let endpoint = self.endpoints.get(method.grpc_path().as_str()).filter(|_| streams)?;
            let target = Target::new(endpoint, Some(matched));
            Some(Target { websocket: true, query_token: true, ..target })
        })
    }

    /// Calls the method. The access rule has been checked, and the context's deadline is set from the budget.
    pub async fn call(
        &self,
        context: &Context,
        target: Target,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Problem> {
        let endpoint = &target.endpoint;
        match target.matched {
            None if target.style == Style::Grpc => native::serve(endpoint, request, context).await,
            None => {
                let version = request.version();
                let request = request.map(|body| Lingering::new(body, version));
                match target.style {
                    Style::GrpcWeb { text } => grpc_web::serve(endpoint, text, request, context).await,
                    style => connect::serve(endpoint, style, request, context).await,
                }
            }
            Some(matched) if target.websocket => {
                websocket::serve(endpoint, matched, request, &self.sockets, context).await
            }
            Some(matched) if endpoint.method.is_server_streaming() => {
                stream::serve(endpoint, matched, request, context).await
            }
            Some(matched) => unary::serve(endpoint, matched, request, context).await,
        }
    }

    /// HTTP method, path template and full name of every route that can be reached, for listings.
    pub fn routes(&self) -> impl Iterator<Item = (&Method, &str, &str)> {
        let reachable =
            |route: &transcode::Route<'_>| self.endpoints.contains_key(route.method.grpc_path().as_str());
        let routes = self.contract.routes().filter(reachable);
        routes.map(|route| (route.verb, route.template, route.method.full_name()))
    }
}

impl ContractPlane {
    /// The contracts' OpenAPI document: of what can be reached from outside, or from inside, too.
    pub fn openapi(&self, info: &transcode::openapi::Info<'_>, internal: bool) -> serde_json::Value {
        self.contract.openapi(info, |method| {
            let endpoint = self.endpoints.get(method.grpc_path().as_str());
            endpoint.is_some_and(|endpoint| internal || endpoint.rule.level != Level::Internal)
        })
    }
}

impl Target {
    /// The method itself, with no HTTP binding.
    fn rpc(endpoint: &Arc<Endpoint>, style: Style) -> Self {
        Self { style, ..Self::new(endpoint, None) }
    }

    fn new(endpoint: &Arc<Endpoint>, matched: Option<Matched>) -> Self {
        let (limits, method) = (&endpoint.limits, &endpoint.method);
        let streaming = method.is_server_streaming() || method.is_client_streaming();
        let without_body = matched.as_ref().is_some_and(|matched| !matched.takes_body());
        Self {
            rule: Arc::clone(&endpoint.rule),
            metrics: Arc::clone(&endpoint.metrics),
            query_token: without_body && method.is_server_streaming(),
            budget: method.timeout().unwrap_or(if streaming {
                limits.stream_max_age
            } else {
                limits.response
            }),
            style: Style::Document,
            endpoint: Arc::clone(endpoint),
            matched,
            websocket: false,
        }
    }
}

impl From<BuildError> for String {
    fn from(error: BuildError) -> Self {
        error.to_string()
    }
}

impl Limits {
    fn of(config: &Config) -> Self {
        Self {
            body_bytes: config.limits.body_bytes.0,
            response: config.deadlines.response.0,
            first_event: config.contracts.first_event.0,
            heartbeat: config.contracts.heartbeat.0,
            stream_idle: config.contracts.stream_idle.0,
            stream_max_age: config.contracts.stream_max_age.0,
            sockets: config.limits.tunnels.0,
        }
    }
}

/// A contract's own bounds on time are bounded themselves.
fn check_timeouts(contract: &Contract, allowed: Duration) -> Result<(), BuildError> {
    let timeouts = contract.methods().iter().filter_map(|method| Some((method, method.timeout()?)));
    for (method, asked) in timeouts {
        if asked > allowed {
            return Err(BuildError::Timeout { method: method.place(), asked, allowed });
        }
    }
    Ok(())
}

/// The edge's form of a contract's access rule; none where the contract denies.
fn rule(access: &Access) -> Option<Rule> {
    let (level, scopes) = match access {
        Access::Denied => return None,
        Access::Public => (Level::Public, vec![]),
        Access::Authenticated { scopes, services: false } => (Level::Authenticated, scopes.clone()),
        Access::Authenticated { scopes, services: true } => (Level::AuthenticatedOrService, scopes.clone()),
        Access::Internal => (Level::Internal, vec![]),
    };
    Some(Rule { level, scopes })
}
