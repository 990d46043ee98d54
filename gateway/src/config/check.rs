//! What single values cannot show: references between tables, and combinations that cannot work.

use super::{
    channels,
    load::ConfigError,
    schema::{Config, Protocol, Route, RouteAccess},
};
use std::time::Duration;

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    upstreams(config)?;
    routes(config)?;
    contracts(config)?;
    channels::check(config)?;
    identity(config)?;
    public(config)
}

fn refuse(key: impl std::fmt::Display, value: impl std::fmt::Debug, expected: &str) -> ConfigError {
    ConfigError(format!("{key}: {value:?} is not valid: expected {expected}"))
}

fn names(config: &Config, protocol: Protocol) -> String {
    let all: Vec<_> =
        config.upstreams.iter().filter(|(_, u)| u.protocol == protocol).map(|(n, _)| n.as_str()).collect();
    let kind = if protocol == Protocol::Http { "HTTP" } else { "gRPC" };
    format!(
        "the name of an upstream with {kind} ({})",
        if all.is_empty() { "none is configured".into() } else { all.join(", ") }
    )
}

fn upstreams(config: &Config) -> Result<(), ConfigError> {
    for (name, upstream) in &config.upstreams {
        let key = format!("upstreams.{name}");
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        {
            return Err(refuse("upstreams", name, "names of lower-case letters, digits and `-`"));
        }
        let valid = upstream.address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        if !valid {
            return Err(refuse(
                format!("{key}.address"),
                &upstream.address,
                "host:port, the port 1 to 65535",
            ));
        }
        let path_needed = upstream.protocol == Protocol::Http;
        if let Some(health) = upstream.health.as_ref().filter(|h| path_needed && !h.starts_with('/')) {
            return Err(refuse(format!("{key}.health"), health, "a path that starts with `/`"));
        }
    }
    Ok(())
}

fn routes(config: &Config) -> Result<(), ConfigError> {
    const OWN: [&str; 2] = ["/healthz", "/readyz"];
    let mut seen = std::collections::BTreeMap::new();
    for (name, route) in &config.routes {
        let key = format!("routes.{name}");
        if !route.path.starts_with('/') || route.path.contains(['?', '#', '*', '{']) {
            return Err(refuse(
                format!("{key}.path"),
                &route.path,
                "a plain path prefix that starts with `/`",
            ));
        }
        let path = route.path.trim_end_matches('/');
        if OWN.contains(&path) {
            return Err(refuse(format!("{key}.path"), &route.path, "a path other than /healthz and /readyz"));
        }
        if let Some(other) = seen.insert(path, name) {
            return Err(ConfigError(format!(
                "{key}.path: {:?} is also the path of routes.{other}",
                route.path
            )));
        }
        let http = config.upstreams.get(&route.upstream).is_some_and(|u| u.protocol == Protocol::Http);
        if !http {
            return Err(refuse(format!("{key}.upstream"), &route.upstream, &names(config, Protocol::Http)));
        }
        document(config, &key, route)?;
        if route.access != RouteAccess::Authenticated && !route.scopes.0.is_empty() {
            return Err(ConfigError(format!("{key}.scopes: only with access = \"authenticated\"")));
        }
    }
    Ok(())
}

/// A document is reached like any other path: some route must take it.
fn document(config: &Config, key: &str, route: &Route) -> Result<(), ConfigError> {
    let Some(path) = &route.openapi else { return Ok(()) };
    let below = |prefix: &str| {
        path.strip_prefix(prefix.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let plain =
        path.starts_with('/') && !path.contains(['?', '#', '\\']) && !path.contains(char::is_whitespace);
    if plain && config.routes.values().any(|route| below(&route.path)) {
        return Ok(());
    }
    Err(refuse(
        format!("{key}.openapi"),
        path,
        "a path that one of the routes takes, such as \"/api/openapi.json\"",
    ))
}

fn contracts(config: &Config) -> Result<(), ConfigError> {
    for (package, upstream) in &config.contracts.packages {
        if config.upstreams.get(upstream).is_none_or(|u| u.protocol != Protocol::Grpc) {
            let key = format!("contracts.packages.\"{package}\"");
            return Err(refuse(key, upstream, &names(config, Protocol::Grpc)));
        }
    }
    Ok(())
}

fn identity(config: &Config) -> Result<(), ConfigError> {
    let identity = &config.identity;
    if let Some(url) =
        identity.jwks_url.as_ref().filter(|u| !u.starts_with("https://") && !u.starts_with("http://"))
    {
        return Err(refuse("identity.jwks_url", url, "an http:// or https:// URL"));
    }
    let ttl = identity.forwarded_ttl.0;
    if !(Duration::from_secs(2)..=Duration::from_secs(60)).contains(&ttl) {
        return Err(refuse("identity.forwarded_ttl", ttl, "2s to 60s"));
    }
    Ok(())
}

fn public(config: &Config) -> Result<(), ConfigError> {
    for origin in &config.public.origins.0 {
        let valid = ["http://", "https://"]
            .iter()
            .any(|s| origin.strip_prefix(s).is_some_and(|r| !r.is_empty() && !r.contains('/')));
        if !valid {
            return Err(refuse("public.origins", origin, "origins such as \"https://app.example\""));
        }
    }
    if config.public.cors.is_some() && config.public.origins.0.is_empty() {
        return Err(ConfigError("public.cors: needs at least one origin in public.origins".into()));
    }
    let header_bytes = config.limits.header_bytes.0;
    if !(1024..=1 << 20).contains(&header_bytes) {
        return Err(refuse("limits.header_bytes", header_bytes, "1024 to 1048576"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, parse};
    use std::path::Path;

    fn refusal(text: &str) -> String {
        parse(text, Path::new("."), &Environment::new()).unwrap_err().to_string()
    }

    #[test]
    fn references_must_exist_and_speak_the_right_protocol() {
        let route = "[routes.api]\npath = \"/api\"\nupstream = \"web\"\naccess = \"public\"\n";
        assert!(refusal(route).contains("routes.api.upstream: \"web\" is not valid"));
        let grpc = format!("{route}[upstreams.web]\nprotocol = \"grpc\"\naddress = \"a:1\"");
        assert!(refusal(&grpc).contains("an upstream with HTTP (none is configured)"));
        assert!(refusal("[contracts.packages]\n\"a.v1\" = \"ai\"").contains("contracts.packages.\"a.v1\""));
    }

    #[test]
    fn two_routes_cannot_share_a_path() {
        let text = "[upstreams.web]\nprotocol = \"http\"\naddress = \"a:1\"\n\
            [routes.a]\npath = \"/x\"\nupstream = \"web\"\naccess = \"public\"\n\
            [routes.b]\npath = \"/x/\"\nupstream = \"web\"\naccess = \"public\"";
        assert!(refusal(text).contains("routes.b.path: \"/x/\" is also the path of routes.a"));
    }

    #[test]
    fn a_document_lies_below_a_route() {
        let text = |openapi: &str| {
            format!(
                "[upstreams.web]\nprotocol = \"http\"\naddress = \"a:1\"\n[routes.a]\npath = \"/x\"\nupstream = \"web\"\n\
                 access = \"public\"\nopenapi = \"{openapi}\""
            )
        };
        assert!(parse(&text("/x/openapi.json"), Path::new("."), &Environment::new()).is_ok());
        for bad in ["x/openapi.json", "/xy/openapi.json", "/x/a?b", "https://example.org/", ""] {
            let refusal = refusal(&text(bad));
            assert!(
                refusal.contains("routes.a.openapi") && refusal.contains("one of the routes"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn addresses_origins_and_lifetimes_are_checked() {
        assert!(refusal("[upstreams.web]\nprotocol = \"http\"\naddress = \"nowhere\"").contains("host:port"));
        assert!(refusal("[public]\norigins = [\"app.example\"]").contains("public.origins"));
        assert!(refusal("[identity]\nforwarded_ttl = \"5m\"").contains("2s to 60s"));
        assert!(refusal("[public.cors]").contains("needs at least one origin"));
    }
}
