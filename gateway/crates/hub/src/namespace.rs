//! The settings of namespaces as applications said them, checked; and the names of channels.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::Settings;
use crate::log::Bounds;
use crate::proto::{self, ChannelKind, Decision};

/// One namespace. The settings last while its application is away.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: Arc<str>,
    pub(crate) kind: ChannelKind,
    pub(crate) presence: bool,
    pub(crate) subscribe: Decision,
    pub(crate) publish: Decision,
    pub(crate) tell_left: bool,
    /// The service that said so; its events go there.
    pub(crate) service: String,
    history: Option<usize>,
    age: Option<Duration>,
    rate: Option<u32>,
    channel_rate: Option<u32>,
}

impl Namespace {
    /// Checks what an application said. The error names what is wrong and what is allowed.
    pub(crate) fn read(service: &str, said: &proto::Namespace) -> Result<Self, String> {
        let name = &said.name;
        let small = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(small) {
            return Err(format!("namespace {name:?}: a name is 1 to 32 small letters, digits and -"));
        }
        let kind = ChannelKind::try_from(said.kind).unwrap_or_default();
        if kind == ChannelKind::Unspecified {
            return Err(format!("namespace {name}: kind {} is none of live, stream, latest", said.kind));
        }
        let decision = |what: &str, number: i32| match Decision::try_from(number) {
            Ok(Decision::Unspecified) => Ok(Decision::Ask),
            Ok(decision) => Ok(decision),
            Err(_) => Err(format!("namespace {name}: {what} {number} is none of ask, allow, deny")),
        };
        Ok(Self {
            name: name.as_str().into(),
            kind,
            presence: said.presence,
            subscribe: decision("subscribe", said.subscribe)?,
            publish: decision("publish", said.publish)?,
            tell_left: said.tell_left,
            service: service.into(),
            history: (said.history > 0).then_some(said.history as usize),
            age: (said.history_seconds > 0).then(|| Duration::from_secs(said.history_seconds.into())),
            rate: (said.rate > 0).then_some(said.rate),
            channel_rate: (said.channel_rate > 0).then_some(said.channel_rate),
        })
    }

    pub(crate) fn bounds(&self, settings: &Settings) -> Bounds {
        Bounds { entries: self.history.unwrap_or(settings.history), bytes: settings.log_bytes }
    }

    pub(crate) fn age(&self, settings: &Settings) -> Duration {
        self.age.unwrap_or(settings.history_age)
    }

    /// Publications per second of one connection.
    pub(crate) fn rate(&self, settings: &Settings) -> u32 {
        self.rate.unwrap_or(settings.publications_per_second)
    }

    /// Publications per second of one channel.
    pub(crate) fn channel_rate(&self, settings: &Settings) -> u32 {
        self.channel_rate.unwrap_or(settings.channel_publications_per_second)
    }

    /// Whether sessions in its channels are known by name.
    pub(crate) fn members(&self) -> bool {
        self.presence || self.tell_left
    }
}

/// What applications said that they serve, also those that are away.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) namespaces: HashMap<Arc<str>, Arc<Namespace>>,
    pub(crate) methods: Vec<String>,
    /// Whether connects are asked about, by service, as its newest hello said. It lasts while the service is away: nobody
    /// gets past it then.
    pub(crate) connects: HashMap<String, bool>,
}

impl Known {
    /// Whether connects are asked about; also before any application has said so.
    pub(crate) fn asks_connects(&self) -> bool {
        self.connects.is_empty() || self.connects.values().any(|asked| *asked)
    }
}

/// Whether a prefix of methods serves a method: `chat` serves `chat` and `chat.rooms`.
pub(crate) fn serves(prefix: &str, method: &str) -> bool {
    method.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Checks a channel's name and gives its namespace. The error says what is allowed.
pub(crate) fn of_channel(name: &str, max_bytes: usize) -> Result<&str, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/~".contains(&byte);
    if name.len() > max_bytes {
        return Err(format!("channel: its name has {} bytes, at most {max_bytes} are allowed", name.len()));
    }
    match name.split_once(':') {
        Some((namespace, rest)) if !namespace.is_empty() && !rest.is_empty() && name.bytes().all(allowed) => {
            Ok(namespace)
        }
        _ => Err(format!(
            "channel {name:?}: a name is a namespace, a colon and more, of letters, digits and -_.:/~"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_channels() {
        assert_eq!(of_channel("chat:lobby/1~a", 128), Ok("chat"));
        for bad in ["", "chat", "chat:", ":lobby", "chat:a b", "chat:ä", "chat:a\n"] {
            assert!(of_channel(bad, 128).is_err(), "{bad:?}");
        }
        assert_eq!(
            of_channel("chat:lobby", 4),
            Err("channel: its name has 10 bytes, at most 4 are allowed".into())
        );
    }

    #[test]
    fn prefixes_of_methods_end_at_a_dot() {
        assert!(serves("chat", "chat.rooms") && serves("chat", "chat") && !serves("chat", "chatter.rooms"));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let read = |said| Namespace::read("realtime", &said).map(|_| ());
        let live = proto::Namespace { name: "chat".into(), kind: 1, ..Default::default() };
        assert_eq!(read(live.clone()), Ok(()));
        assert!(read(proto::Namespace { name: "Chat".into(), ..live.clone() }).is_err());
        assert!(read(proto::Namespace { kind: 0, ..live.clone() }).is_err());
        let error = read(proto::Namespace { publish: 9, ..live });
        assert_eq!(error, Err("namespace chat: publish 9 is none of ask, allow, deny".into()));
    }
}
