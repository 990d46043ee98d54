//! Path prefixes to HTTP upstreams, resolved when the configuration is loaded.

use crate::{
    config::{Config, RouteAccess},
    edge::{Level, Rule, metrics::Metrics, metrics::RouteMetrics},
    upstream::{Upstream, Upstreams},
};
use http::HeaderValue;
use std::{sync::Arc, time::Duration};

/// A route with all it refers to.
pub struct Route {
    prefix: String,
    /// Where it goes.
    pub upstream: Arc<Upstream>,
    /// Who may use it.
    pub rule: Rule,
    /// Its metrics.
    pub metrics: Arc<RouteMetrics>,
    /// Until the response's head.
    pub budget: Duration,
    /// The budget as `request-timeout` says it.
    pub(super) budget_header: HeaderValue,
    /// Largest request body.
    pub body_bytes: u64,
    /// Whether a WebSocket upgrade is tunnelled.
    pub websocket: bool,
    /// Whether `?access_token=` is taken.
    pub query_token: bool,
    /// Whether `authorization` is passed on.
    pub(super) forward_authorization: bool,
}

/// All routes, longest prefix first.
pub struct Routes(Vec<Arc<Route>>);

impl Routes {
    /// Builds the table from a checked configuration.
    pub fn build(config: &Config, upstreams: &Upstreams, metrics: &Metrics) -> Self {
        let mut routes: Vec<_> = config
            .routes
            .iter()
            .filter_map(|(name, route)| {
                let budget = route.response_timeout.unwrap_or(config.deadlines.response).0;
                let level = match route.access {
                    RouteAccess::Public => Level::Public,
                    RouteAccess::Authenticated => Level::Authenticated,
                    RouteAccess::Internal => Level::Internal,
                };
                Some(Arc::new(Route {
                    prefix: route.path.trim_end_matches('/').to_owned(),
                    upstream: Arc::clone(upstreams.get(&route.upstream)?),
                    rule: Rule { level, scopes: route.scopes.0.clone() },
                    metrics: metrics.route(name),
                    budget,
                    budget_header: super::proxy::seconds(budget),
                    body_bytes: route.body_bytes.unwrap_or(config.limits.body_bytes).0,
                    websocket: route.websocket.0,
                    query_token: route.query_token.0,
                    forward_authorization: route.forward_authorization.0,
                }))
            })
            .collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        Self(routes)
    }

    /// The route with the longest prefix of whole segments.
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        self.0.iter().find(|route| {
            path.strip_prefix(route.prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

impl Route {
    /// Whether it takes every path: then contracts come first.
    pub fn is_root(&self) -> bool {
        self.prefix.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, parse};

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let mut text = "[upstreams.web]\nprotocol = \"http\"\naddress = \"a:1\"\n".to_owned();
        for (name, path) in [("root", "/"), ("api", "/api"), ("notes", "/api/notes/")] {
            text += &format!("[routes.{name}]\npath = \"{path}\"\nupstream = \"web\"\naccess = \"public\"\n");
        }
        let config = parse(&text, std::path::Path::new("."), &Environment::new()).unwrap();
        let metrics = Metrics::default();
        let routes = Routes::build(&config, &Upstreams::build(&config, None), &metrics);
        for (path, name) in [
            ("/api", "api"),
            ("/api/x", "api"),
            ("/apix", "root"),
            ("/api/notes", "notes"),
            ("/api/notes/1", "notes"),
            ("/api/notesx", "api"),
            ("/", "root"),
        ] {
            assert_eq!(routes.find(path).unwrap().metrics.name(), name, "{path}");
        }
    }
}
