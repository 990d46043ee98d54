//! The table `[channels]`: who decides, where clients connect, and every limit of the hub.

use super::{
    load::ConfigError,
    schema::{Config, RouteAccess},
    values::{ByteSize, Count, List, Millis},
};
use serde::Deserialize;
use std::{fmt, time::Duration};

/// A ticket is as good as a token while it lives, and a revocation is remembered for as long.
const LONGEST_TICKET: Duration = Duration::from_secs(300);

/// Channels; off when the table is absent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Channels {
    /// Upstreams that may attach and decide. The first one's secret signs tickets.
    pub services: List<String>,
    /// What the paths begin with.
    pub path: String,
    /// Who may connect; the application may still refuse.
    pub access: RouteAccess,
    /// Scopes that an authenticated caller must hold, all of them.
    pub scopes: List<String>,
    /// Open connections.
    pub connections: Count,
    /// Subscriptions of a connection.
    pub channels_per_connection: Count,
    /// Bytes of a channel's name.
    pub channel_name_bytes: Count,
    /// Bytes of a message that a client sends.
    pub frame_bytes: ByteSize,
    /// Commands per second of a connection.
    pub commands_per_second: Count,
    /// Commands of a connection that are not answered yet.
    pub commands_in_flight: Count,
    /// Publications per second of a connection, where the namespace does not say.
    pub publications_per_second: Count,
    /// Publications per second of a channel, where the namespace does not say.
    pub channel_publications_per_second: Count,
    /// Bytes that wait for a connection.
    pub outbox_bytes: ByteSize,
    /// A connection to which nothing can be written is closed after this.
    pub write_timeout: Millis,
    /// Silence before a heartbeat.
    pub heartbeat: Millis,
    /// How long a ticket is good.
    pub ticket_ttl: Millis,
    /// How long the application has for an answer.
    pub ask_timeout: Millis,
    /// Asks that wait while no application is attached.
    pub asks_waiting: Count,
    /// Asks that one link has not answered.
    pub asks_per_link: Count,
    /// Events that are kept until they are acknowledged.
    pub events: Count,
    /// Publications that a channel keeps, where the namespace does not say.
    pub history: Count,
    /// How long they are kept, where the namespace does not say.
    pub history_age: Millis,
    /// Bytes that a channel keeps.
    pub log_bytes: ByteSize,
    /// Channels at a time.
    pub channels: Count,
    /// Members that a presence query lists.
    pub presence_members: Count,
    /// How long a session whose connection broke still counts as there.
    pub presence_grace: Millis,
    /// How long a busy channel gathers publications.
    pub flush: Millis,
    /// Bytes of a batch that do not wait longer.
    pub coalesce_bytes: ByteSize,
}

impl Default for Channels {
    fn default() -> Self {
        let secs = |n| Millis(Duration::from_secs(n));
        Self {
            services: List::default(),
            path: "/channels/v1".into(),
            access: RouteAccess::Public,
            scopes: List::default(),
            connections: Count(100_000),
            channels_per_connection: Count(128),
            channel_name_bytes: Count(128),
            frame_bytes: ByteSize(64 << 10),
            commands_per_second: Count(100),
            commands_in_flight: Count(32),
            publications_per_second: Count(50),
            channel_publications_per_second: Count(1_000),
            outbox_bytes: ByteSize(1 << 20),
            write_timeout: secs(10),
            heartbeat: secs(25),
            ticket_ttl: secs(300),
            ask_timeout: secs(5),
            asks_waiting: Count(1_000),
            asks_per_link: Count(4_096),
            events: Count(10_000),
            history: Count(300),
            history_age: secs(300),
            log_bytes: ByteSize(1 << 20),
            channels: Count(100_000),
            presence_members: Count(100),
            presence_grace: secs(10),
            flush: Millis(Duration::from_millis(2)),
            coalesce_bytes: ByteSize(64 << 10),
        }
    }
}

/// What the table's single values cannot show.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let Some(channels) = &config.channels else { return Ok(()) };
    services(config, channels)?;
    path(config, channels)?;
    if channels.access != RouteAccess::Authenticated && !channels.scopes.0.is_empty() {
        return Err(ConfigError("channels.scopes: only with access = \"authenticated\"".into()));
    }
    within("channel_name_bytes", channels.channel_name_bytes.0, 8, 255)?;
    let (frame, outbox) = (channels.frame_bytes.0, channels.outbox_bytes.0);
    within("frame_bytes", frame, 1 << 10, 1 << 20)?;
    if outbox < 2 * frame {
        let expected = format!("at least {}, twice channels.frame_bytes", 2 * frame);
        return Err(refuse("outbox_bytes", outbox, &expected));
    }
    within("coalesce_bytes", channels.coalesce_bytes.0, 1 << 10, outbox)?;
    match channels.ticket_ttl.0 {
        ttl if ttl < Duration::from_secs(1) || ttl > LONGEST_TICKET => {
            Err(refuse("ticket_ttl", ttl, "1s to 5m"))
        }
        _ => Ok(()),
    }
}

fn refuse(key: &str, value: impl fmt::Debug, expected: &str) -> ConfigError {
    ConfigError(format!("channels.{key}: {value:?} is not valid: expected {expected}"))
}

fn within<T: PartialOrd + fmt::Display + fmt::Debug>(
    key: &str,
    value: T,
    least: T,
    most: T,
) -> Result<(), ConfigError> {
    match least <= value && value <= most {
        true => Ok(()),
        false => Err(refuse(key, value, &format!("{least} to {most}"))),
    }
}

/// Without a secret nobody could prove to be that service.
fn services(config: &Config, channels: &Channels) -> Result<(), ConfigError> {
    let mut known = config.upstreams.iter().filter(|(_, upstream)| upstream.secret.is_some());
    let is_known = |name: &String| config.upstreams.get(name).is_some_and(|it| it.secret.is_some());
    let bad = match channels.services.0.iter().find(|name| !is_known(name)) {
        Some(name) => name.as_str(),
        None if channels.services.0.is_empty() => "",
        None => return Ok(()),
    };
    let first = known.next().map_or("none is configured", |(name, _)| name);
    let all = known.fold(first.to_owned(), |all, (name, _)| all + ", " + name);
    Err(refuse("services", bad, &format!("names of upstreams with a secret ({all}), at least one")))
}

/// Its paths are the gateway's own: no route may lie at or below them.
fn path(config: &Config, channels: &Channels) -> Result<(), ConfigError> {
    let path = channels.path.as_str();
    if !path.starts_with('/') || path.ends_with('/') || path.contains(['?', '#', '*', '{', '%', '\\']) {
        return Err(refuse("path", path, "a plain path that starts with `/` and does not end with it"));
    }
    let below =
        |route: &str| route.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match config.routes.iter().find(|(_, route)| below(&route.path)) {
        Some((name, _)) => {
            Err(ConfigError(format!("channels.path: {path:?} takes what routes.{name} is for")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, parse};
    use super::*;
    use std::path::Path;

    const UPSTREAM: &str = "[upstreams.web]\nprotocol = \"http\"\naddress = \"a:1\"\n\
        secret = \"web-web-web-web-web-web-web-web-web\"\n\
        [upstreams.open]\nprotocol = \"http\"\naddress = \"a:2\"\n";

    fn with(channels: &str) -> Result<Option<Channels>, String> {
        let text = format!("{UPSTREAM}[channels]\n{channels}");
        let config = parse(&text, Path::new("."), &Environment::new());
        config.map(|config| config.channels).map_err(|error| error.to_string())
    }

    #[test]
    fn the_table_turns_channels_on_with_the_documented_defaults() {
        let off = parse(UPSTREAM, Path::new("."), &Environment::new()).unwrap();
        assert!(off.channels.is_none());
        let on = with("services = [\"web\"]").unwrap().unwrap();
        assert_eq!(on, Channels { services: List(vec!["web".into()]), ..Channels::default() });
        let variable = [("GATEWAY__CHANNELS__SERVICES".to_owned(), "web".to_owned())].into();
        assert!(parse(UPSTREAM, Path::new("."), &variable).unwrap().channels.is_some());
    }

    #[test]
    fn bad_values_name_the_key_the_value_and_what_is_allowed() {
        let good = "services = [\"web\"]\n";
        for (text, expected) in [
            ("", "channels.services: \"\" is not valid: expected names of upstreams with a secret (web)"),
            ("services = [\"open\"]", "channels.services: \"open\" is not valid"),
            ("path = \"channels\"", "channels.path: \"channels\" is not valid: expected a plain path"),
            ("path = \"/\"", "channels.path: \"/\" is not valid"),
            ("scopes = [\"x\"]", "channels.scopes: only with access"),
            ("channel_name_bytes = 300", "channels.channel_name_bytes: 300 is not valid: expected 8 to 255"),
            ("frame_bytes = 10", "channels.frame_bytes: 10 is not valid: expected 1024 to 1048576"),
            ("outbox_bytes = 70000", "channels.outbox_bytes: 70000 is not valid: expected at least 131072"),
            ("ticket_ttl = \"10m\"", "channels.ticket_ttl: 600s is not valid: expected 1s to 5m"),
            ("coalesce_bytes = 2097152", "channels.coalesce_bytes: 2097152 is not valid"),
            ("heartbeats = \"1s\"", "unknown field `heartbeats`"),
        ] {
            let own = text.contains("services") || text.is_empty();
            let refusal = with(&if own { text.to_owned() } else { format!("{good}{text}") }).unwrap_err();
            assert!(refusal.contains(expected), "{refusal}");
        }
    }

    #[test]
    fn no_route_lies_below_the_channels() {
        let route = |path: &str| {
            let route = format!(
                "services = [\"web\"]\n[routes.a]\npath = \"{path}\"\nupstream = \"web\"\naccess = \"public\""
            );
            with(&route)
        };
        assert!(route("/channels").is_ok() && route("/").is_ok() && route("/channels/v10").is_ok());
        assert!(route("/channels/v1/events").unwrap_err().contains("takes what routes.a is for"));
    }
}
