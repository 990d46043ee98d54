//! Counters and gauges, for metrics.

use crate::proto::CloseCode;

/// What the application is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AskKind {
    /// A session opens.
    Connect,
    /// A session subscribes.
    Subscribe,
    /// A session publishes.
    Publish,
    /// A session calls.
    Call,
}

/// How an ask ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AskOutcome {
    /// The application said yes.
    Answered,
    /// The application said no.
    Refused,
    /// No answer came in time.
    TimedOut,
    /// The application was away, or went away.
    Unavailable,
    /// Nobody waited any more.
    Withdrawn,
}

/// Where the hub stands. Fields that are not called a gauge only increase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Gauge: open connections.
    pub connections: u64,
    /// Gauge: open sessions: connections past their connect.
    pub sessions: u64,
    /// Gauge: subscriptions.
    pub subscriptions: u64,
    /// Gauge: channels.
    pub channels: u64,
    /// Gauge: attached applications.
    pub links: u64,
    /// Gauge: asks that are not answered yet.
    pub asks_in_flight: u64,
    /// Gauge: asks that wait for an application.
    pub asks_waiting: u64,
    /// Gauge: events that are not acknowledged.
    pub events_waiting: u64,
    /// Gauge: publications in all logs.
    pub log_entries: u64,
    /// Gauge: their bytes.
    pub log_bytes: u64,
    /// Connections that were opened.
    pub opened: u64,
    /// Sessions that were resumed with a ticket.
    pub resumed: u64,
    /// Subscriptions that got everything since their place.
    pub recovered: u64,
    /// Subscriptions that came back and did not.
    pub not_recovered: u64,
    /// Publications that were accepted.
    pub publications: u64,
    /// Publications that were handed to outboxes: one for each subscriber.
    pub deliveries: u64,
    /// Bytes that were taken from outboxes.
    pub bytes: u64,
    /// Publications that live channels did not deliver to slow subscribers.
    pub dropped: u64,
    /// Events that were dropped because too many waited.
    pub events_lost: u64,
    /// Connections that the hub closed, by code.
    pub closed: Vec<(CloseCode, u64)>,
    /// Asks that ended, by kind and outcome.
    pub asks: Vec<(AskKind, AskOutcome, u64)>,
}
