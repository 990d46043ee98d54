//! Counters and gauges, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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

/// What [`Stats`] is read from.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) opened: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) recovered: AtomicU64,
    pub(crate) not_recovered: AtomicU64,
    pub(crate) publications: AtomicU64,
    pub(crate) deliveries: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) events_lost: AtomicU64,
    closed: [AtomicU64; CODES.len()],
    asks: [[AtomicU64; OUTCOMES.len()]; KINDS.len()],
}

const CODES: [CloseCode; 10] = [
    CloseCode::Draining,
    CloseCode::Slow,
    CloseCode::Silent,
    CloseCode::Expired,
    CloseCode::Overloaded,
    CloseCode::Flood,
    CloseCode::Replaced,
    CloseCode::BadFrame,
    CloseCode::Refused,
    CloseCode::Revoked,
];
const KINDS: [AskKind; 4] = [AskKind::Connect, AskKind::Subscribe, AskKind::Publish, AskKind::Call];
const OUTCOMES: [AskOutcome; 5] = [
    AskOutcome::Answered,
    AskOutcome::Refused,
    AskOutcome::TimedOut,
    AskOutcome::Unavailable,
    AskOutcome::Withdrawn,
];

impl Counters {
    pub(crate) fn closed(&self, code: CloseCode) {
        if let Some(index) = CODES.iter().position(|known| *known == code) {
            self.closed[index].fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn asked(&self, kind: AskKind, outcome: AskOutcome) {
        self.asks[kind as usize][outcome as usize].fetch_add(1, Relaxed);
    }

    /// The counters; gauges are left at zero.
    pub(crate) fn read(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        let asks = KINDS.iter().flat_map(|kind| OUTCOMES.iter().map(move |outcome| (*kind, *outcome)));
        Stats {
            opened: get(&self.opened),
            resumed: get(&self.resumed),
            recovered: get(&self.recovered),
            not_recovered: get(&self.not_recovered),
            publications: get(&self.publications),
            deliveries: get(&self.deliveries),
            bytes: get(&self.bytes),
            dropped: get(&self.dropped),
            events_lost: get(&self.events_lost),
            closed: CODES.iter().zip(&self.closed).map(|(code, count)| (*code, get(count))).collect(),
            asks: asks
                .map(|(kind, outcome)| (kind, outcome, get(&self.asks[kind as usize][outcome as usize])))
                .collect(),
            ..Stats::default()
        }
    }
}
