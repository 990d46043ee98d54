//! The configuration's limits as the hub has them.

use crate::config::{ByteSize, Channels};
use std::{
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

/// Names this process to applications, over all reloads. In a container every process has the same number, so that its
/// start is named, too: to another process an application tells again what it has to show.
static GATEWAY: LazyLock<String> = LazyLock::new(|| {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    format!("gateway-{}-{started:x}", std::process::id())
});

/// A count as the hub has it; the configuration's go up to a million.
fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

pub(super) fn settings(own: &Channels) -> hub::Settings {
    hub::Settings {
        gateway: GATEWAY.clone(),
        connections: own.connections.0,
        channels_per_connection: own.channels_per_connection.0,
        channel_name_bytes: own.channel_name_bytes.0,
        frame_bytes: bytes(own.frame_bytes),
        commands_per_second: small(own.commands_per_second.0),
        commands_in_flight: own.commands_in_flight.0,
        outbox_bytes: bytes(own.outbox_bytes),
        heartbeat: own.heartbeat.0,
        ticket_ttl: own.ticket_ttl.0,
        ask_timeout: own.ask_timeout.0,
        asks_waiting: own.asks_waiting.0,
        asks_per_link: own.asks_per_link.0,
        events: own.events.0,
        history: own.history.0,
        history_age: own.history_age.0,
        log_bytes: bytes(own.log_bytes),
        channels: own.channels.0,
        channel_publications_per_second: small(own.channel_publications_per_second.0),
        publications_per_second: small(own.publications_per_second.0),
        presence_members: own.presence_members.0,
        presence_grace: own.presence_grace.0,
        flush: own.flush.0,
        coalesce_bytes: bytes(own.coalesce_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_defaults_are_the_hubs() {
        let hubs = hub::Settings { gateway: settings(&Channels::default()).gateway, ..Default::default() };
        assert_eq!(settings(&Channels::default()), hubs);
    }
}
