//! Every limit of the hub, with its default.

use std::time::Duration;

/// What the hub allows and how long it keeps things. A reload changes what counts from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Names the gateway's process in Welcome. Default: `gateway`.
    pub gateway: String,
    /// Connections at a time; more are refused with OVERLOADED. Default: 100,000.
    pub connections: usize,
    /// Subscriptions of a connection. Default: 128.
    pub channels_per_connection: usize,
    /// Bytes of a channel's name. Default: 128.
    pub channel_name_bytes: usize,
    /// Bytes of a frame that a client sends. Default: 64 KiB.
    pub frame_bytes: usize,
    /// Commands per second of a connection, over four seconds; ten times that closes it. Default: 100.
    pub commands_per_second: u32,
    /// Commands of a connection that are not answered yet. Default: 32.
    pub commands_in_flight: usize,
    /// Bytes that wait for a connection. Default: 1 MiB.
    pub outbox_bytes: usize,
    /// Silence before a heartbeat; twice as long closes a connection. Default: 25 s.
    pub heartbeat: Duration,
    /// How long a ticket is good, at most five minutes. Default: 5 min.
    pub ticket_ttl: Duration,
    /// How long the application has for an answer. Default: 5 s.
    pub ask_timeout: Duration,
    /// Asks that wait for an application that is away; more are refused. Default: 1,000.
    pub asks_waiting: usize,
    /// Asks that one link has not answered; more go to another link or wait. Default: 4,096.
    pub asks_per_link: usize,
    /// Events that are kept until they are acknowledged; the oldest are dropped and counted. Default: 10,000.
    pub events: usize,
    /// Publications that a stream keeps, keys that a latest keeps, where the namespace does not say. Default: 300.
    pub history: usize,
    /// How long they are kept, where the namespace does not say. Default: 300 s.
    pub history_age: Duration,
    /// Bytes that a channel's log keeps. Default: 1 MiB.
    pub log_bytes: usize,
    /// Channels at a time; more are refused. Default: 100,000.
    pub channels: usize,
    /// Publications per second of a channel, where the namespace does not say. Default: 1,000.
    pub channel_publications_per_second: u32,
    /// Publications per second of a connection, where the namespace does not say. Default: 50.
    pub publications_per_second: u32,
    /// Members that a presence query lists. Default: 100.
    pub presence_members: usize,
    /// How long a session whose connection broke still counts as there. Default: 10 s.
    pub presence_grace: Duration,
    /// How long a busy channel gathers publications before it delivers them, for few subscribers: for many it is 1 ms
    /// more for each 80, 50 ms more at most. Zero: every publication is delivered by itself. Default: 2 ms.
    pub flush: Duration,
    /// Bytes of a batch that are delivered without waiting longer, and of a page of recovery. Default: 64 KiB.
    pub coalesce_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            gateway: "gateway".into(),
            connections: 100_000,
            channels_per_connection: 128,
            channel_name_bytes: 128,
            frame_bytes: 64 << 10,
            commands_per_second: 100,
            commands_in_flight: 32,
            outbox_bytes: 1 << 20,
            heartbeat: Duration::from_secs(25),
            ticket_ttl: Duration::from_secs(300),
            ask_timeout: Duration::from_secs(5),
            asks_waiting: 1_000,
            asks_per_link: 4_096,
            events: 10_000,
            history: 300,
            history_age: Duration::from_secs(300),
            log_bytes: 1 << 20,
            channels: 100_000,
            channel_publications_per_second: 1_000,
            publications_per_second: 50,
            presence_members: 100,
            presence_grace: Duration::from_secs(10),
            flush: Duration::from_millis(2),
            coalesce_bytes: 64 << 10,
        }
    }
}
