//! The configuration's shape and defaults. `gateway.toml` in this crate's folder shows every key with a comment.

use super::channels::Channels;
use super::values::{ByteSize, Count, List, Millis, Secret, Switch};
use serde::Deserialize;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

/// The whole configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The three listeners.
    pub listen: Listen,
    /// What browsers may do on the public listener.
    pub public: Public,
    /// Bounds on what one client, or all, may use.
    pub limits: Limits,
    /// Times after which waiting ends.
    pub deadlines: Deadlines,
    /// Who callers are, and how services are told.
    pub identity: Identity,
    /// Logs.
    pub log: Log,
    /// The protobuf contracts that are served.
    pub contracts: Contracts,
    /// Channels; off when the table is absent.
    pub channels: Option<Channels>,
    /// Where requests go, by name.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Which paths go to HTTP upstreams, by name.
    pub routes: BTreeMap<String, Route>,
    /// The gateway's own pages.
    pub page: Page,
}

/// Listener addresses. Read at start only.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Where clients connect.
    pub public: SocketAddr,
    /// Where services reach each other.
    pub internal: SocketAddr,
    /// Metrics, states and reload.
    pub admin: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self { public: at(8080), internal: at(8081), admin: at(8082) }
    }
}

/// Browser rules of the public listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Public {
    /// Host names (without port) that are answered; `*` for any.
    pub hosts: List<String>,
    /// Origins that are accepted besides the gateway's own.
    pub origins: List<String>,
    /// Cross-origin sharing; off when the table is absent.
    pub cors: Option<Cors>,
}

impl Default for Public {
    fn default() -> Self {
        let hosts = ["localhost", "127.0.0.1", "[::1]"].map(String::from).to_vec();
        Self { hosts: List(hosts), origins: List::default(), cors: None }
    }
}

/// Cross-origin sharing for `public.origins`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Methods that a preflight allows.
    pub methods: List<String>,
    /// Request headers that a preflight allows.
    pub headers: List<String>,
    /// How long a browser may keep a preflight's answer.
    pub max_age: Millis,
}

impl Default for Cors {
    fn default() -> Self {
        let own = |names: &[&str]| List(names.iter().map(|s| (*s).to_owned()).collect());
        Self {
            methods: own(&["GET", "POST", "PUT", "PATCH", "DELETE"]),
            headers: own(&[
                "authorization",
                "content-type",
                "if-match",
                "if-none-match",
                // What gRPC-Web and Connect clients in browsers send.
                "connect-protocol-version",
                "connect-timeout-ms",
                "grpc-timeout",
                "x-grpc-web",
                "x-user-agent",
            ]),
            max_age: Millis(Duration::from_secs(600)),
        }
    }
}

/// Bounds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest request body, unless a route says otherwise.
    pub body_bytes: ByteSize,
    /// Largest request head: names and values of all headers, and the target.
    pub header_bytes: ByteSize,
    /// Open connections per listener; further ones wait in the kernel's queue.
    pub connections: Count,
    /// Requests in flight on a listener; further ones get 503 `overloaded`.
    pub requests: Count,
    /// Open WebSocket tunnels; further ones get 503 `overloaded`.
    pub tunnels: Count,
    /// Concurrent streams of one HTTP/2 connection.
    pub streams_per_connection: Count,
    /// External tokens whose verification is remembered.
    pub cached_tokens: Count,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: ByteSize(8 << 20),
            header_bytes: ByteSize(32 << 10),
            connections: Count(10_000),
            requests: Count(10_000),
            tunnels: Count(10_000),
            streams_per_connection: Count(128),
            cached_tokens: Count(10_000),
        }
    }
}

/// Times.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    /// Until an upstream's response head, unless a route says otherwise.
    pub response: Millis,
    /// Between two pieces of a body, in either direction.
    pub body_idle: Millis,
    /// Until an upstream's connection is made.
    pub connect: Millis,
    /// Until a client's first request head is complete.
    pub request_head: Millis,
    /// How long a client's connection may wait for its next request.
    pub keep_alive: Millis,
    /// How long an unused upstream connection is kept.
    pub upstream_idle: Millis,
    /// Until the upstream answers a WebSocket handshake.
    pub tunnel_handshake: Millis,
    /// A tunnel in which nothing moves is closed after this.
    pub tunnel_idle: Millis,
    /// A tunnel is closed after this, whatever moves.
    pub tunnel_max_age: Millis,
    /// How long one direction may outlive the other's end.
    pub tunnel_half_close: Millis,
    /// How long requests, streams and tunnels may go on after a stop signal.
    pub drain: Millis,
}

impl Default for Deadlines {
    fn default() -> Self {
        let secs = |n| Millis(Duration::from_secs(n));
        Self {
            response: secs(30),
            body_idle: secs(60),
            connect: secs(2),
            request_head: secs(10),
            keep_alive: secs(75),
            upstream_idle: secs(4),
            tunnel_handshake: secs(10),
            tunnel_idle: secs(120),
            tunnel_max_age: secs(12 * 3600),
            tunnel_half_close: secs(10),
            drain: secs(10),
        }
    }
}

/// Identity of callers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// The `iss` that external tokens must carry.
    pub issuer: String,
    /// The `aud` that external tokens must carry.
    pub audience: String,
    /// Secret of HS256 tokens.
    pub hs256_secret: Option<Secret>,
    /// The same, read from a file.
    pub hs256_secret_file: Option<PathBuf>,
    /// Where the issuer publishes its public keys.
    pub jwks_url: Option<String>,
    /// At most one fetch of the keys within this time.
    pub jwks_refresh: Millis,
    /// Clock difference that is tolerated.
    pub leeway: Millis,
    /// How long the identity that services get is valid; at most 60 s.
    pub forwarded_ttl: Millis,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            issuer: "hybrid-dev".into(),
            audience: "hybrid".into(),
            hs256_secret: None,
            hs256_secret_file: None,
            jwks_url: None,
            jwks_refresh: Millis(Duration::from_secs(60)),
            leeway: Millis(Duration::from_secs(5)),
            forwarded_ttl: Millis(Duration::from_secs(60)),
        }
    }
}

/// Logs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// The least severe level that is written (a tracing filter).
    pub level: String,
    /// Whether every request is logged.
    pub access: Switch,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".into(), access: Switch(true) }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Protobuf contracts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Contracts {
    /// Folders that hold `.proto` files.
    pub paths: List<PathBuf>,
    /// Whether a change of their files is a reload.
    pub watch: Switch,
    /// Which upstream serves a protobuf package.
    pub packages: BTreeMap<String, String>,
    /// What becomes of fields and query parameters in requests that the contract does not have.
    pub unknown_fields: UnknownFields,
    /// The longest time that a contract may give a method of its own.
    pub max_timeout: Millis,
    /// How long a stream's first event may decide the HTTP status; then the answer is 200, with heartbeats.
    pub first_event: Millis,
    /// A comment is sent in an event stream that has been silent for this long.
    pub heartbeat: Millis,
    /// A stream in which the upstream says nothing is ended after this.
    pub stream_idle: Millis,
    /// A stream is ended after this, whatever moves.
    pub stream_max_age: Millis,
}

impl Default for Contracts {
    fn default() -> Self {
        let secs = |n| Millis(Duration::from_secs(n));
        Self {
            paths: List::default(),
            watch: Switch(true),
            packages: BTreeMap::new(),
            unknown_fields: UnknownFields::default(),
            max_timeout: secs(3600),
            first_event: secs(5),
            heartbeat: secs(15),
            stream_idle: secs(120),
            stream_max_age: secs(3600),
        }
    }
}

/// What becomes of fields that the contract does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownFields {
    /// The request is refused, and the field named.
    #[default]
    Refuse,
    /// They are passed over.
    Ignore,
}

/// An upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// What it speaks.
    pub protocol: Protocol,
    /// `host:port`.
    pub address: String,
    /// HTTP: the path that answers 2xx when it can serve; absent: a TCP connection suffices.
    /// gRPC: the service named in the health check; absent: the server as a whole.
    #[serde(default)]
    pub health: Option<String>,
    /// How often its health is checked.
    #[serde(default = "defaults::health_interval")]
    pub health_interval: Millis,
    /// The secret that it shares with the gateway; without one it gets no identity and may not call.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// The same, read from a file.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// Connections that are kept while unused (HTTP), or opened at all (gRPC).
    #[serde(default = "defaults::connections")]
    pub connections: Count,
    /// Requests in flight to it; further ones get 503 `overloaded`.
    #[serde(default = "defaults::requests")]
    pub requests: Count,
}

/// What an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1 and WebSocket.
    Http,
    /// gRPC over HTTP/2 without TLS.
    Grpc,
}

/// A path prefix that goes to an HTTP upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The prefix; whole segments only, forwarded unchanged.
    pub path: String,
    /// The upstream's name.
    pub upstream: String,
    /// Who may use it.
    pub access: RouteAccess,
    /// Scopes that an authenticated caller must hold, all of them.
    #[serde(default)]
    pub scopes: List<String>,
    /// Whether a WebSocket upgrade is tunnelled.
    #[serde(default = "defaults::off")]
    pub websocket: Switch,
    /// Whether `?access_token=` is taken where headers cannot be set (WebSocket, EventSource).
    #[serde(default = "defaults::off")]
    pub query_token: Switch,
    /// Until the response head; absent: `deadlines.response`.
    #[serde(default)]
    pub response_timeout: Option<Millis>,
    /// Largest request body; absent: `limits.body_bytes`.
    #[serde(default)]
    pub body_bytes: Option<ByteSize>,
    /// Whether the client's own `authorization` is passed on besides the gateway's identity.
    #[serde(default = "defaults::off")]
    pub forward_authorization: Switch,
    /// Where the service's own OpenAPI document is: a path on the gateway, for the list at `/docs`.
    #[serde(default)]
    pub openapi: Option<String>,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteAccess {
    /// Anybody; without a token the identity is anonymous.
    Public,
    /// A user, or a service acting for one.
    Authenticated,
    /// Services only, on the internal listener.
    Internal,
}

/// The gateway's own pages.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Page {
    /// Whether `/` is answered by the gateway.
    pub enabled: Switch,
    /// Whether `/docs` and `/openapi.json` are, too.
    pub docs: Switch,
    /// Folder of the `.http` files that it shows.
    pub samples: Option<PathBuf>,
}

impl Default for Page {
    fn default() -> Self {
        Self { enabled: Switch(true), docs: Switch(true), samples: None }
    }
}

impl Page {
    /// Whether there are pages about the API.
    pub fn has_docs(&self) -> bool {
        self.enabled.0 && self.docs.0
    }
}

mod defaults {
    use super::{Count, Duration, Millis, Switch};
    pub(super) fn health_interval() -> Millis {
        Millis(Duration::from_secs(5))
    }
    pub(super) fn connections() -> Count {
        Count(256)
    }
    pub(super) fn requests() -> Count {
        Count(4096)
    }
    pub(super) fn off() -> Switch {
        Switch(false)
    }
}
