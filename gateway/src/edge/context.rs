//! What is known about a request before a plane sees it.

use super::headers::Scan;
use crate::identity::Caller;
use http::{HeaderMap, HeaderValue};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// From clients.
    Public,
    /// From the stack's services.
    Internal,
}

/// A request's context: made once at the edge, borrowed by the plane that serves it.
pub struct Context {
    /// Where it came in.
    pub listener: Listener,
    /// The client's address.
    pub client: SocketAddr,
    /// When its head was complete.
    pub start: Instant,
    /// When its answer's head must have come: the client's own deadline, capped by the route's.
    pub deadline: Instant,
    /// Whether the client stated a deadline itself: then it also bounds streams.
    pub client_deadline: bool,
    /// `x-request-id`.
    pub request_id: HeaderValue,
    /// `traceparent` for the next hop: the caller's trace (or a new one), the gateway's own span.
    pub traceparent: HeaderValue,
    /// Who calls.
    pub caller: Arc<Caller>,
    /// Time spent waiting for the upstream, in µs, as the plane reports it.
    upstream: AtomicU32,
}

impl Context {
    pub(crate) fn new(
        listener: Listener,
        client: SocketAddr,
        start: Instant,
        caller: Arc<Caller>,
        ids: (HeaderValue, HeaderValue),
    ) -> Self {
        let (request_id, traceparent) = ids;
        let (deadline, upstream) = (start, AtomicU32::new(u32::MAX));
        Self {
            listener,
            client,
            start,
            deadline,
            client_deadline: false,
            request_id,
            traceparent,
            caller,
            upstream,
        }
    }

    /// Sets the deadline: `budget` from the start, or what the client's headers say when that is less.
    pub(crate) fn limit(&mut self, budget: Duration, headers: &HeaderMap, found: Scan) {
        let stated = if found.deadline { stated_budget(headers) } else { None };
        self.client_deadline = stated.is_some_and(|stated| stated < budget);
        self.deadline = self.start + stated.map_or(budget, |stated| stated.min(budget));
    }

    /// What is left until the deadline.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Reports the time that the upstream took, for `server-timing`.
    pub fn set_upstream_time(&self, time: Duration) {
        self.upstream.store(u32::try_from(time.as_micros()).unwrap_or(u32::MAX - 1), Relaxed);
    }

    pub(crate) fn upstream_micros(&self) -> Option<u32> {
        Some(self.upstream.load(Relaxed)).filter(|&micros| micros != u32::MAX)
    }

    /// The request id as text.
    pub fn request_id_str(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }
}

/// `request-timeout: <seconds>`, `connect-timeout-ms: <digits>` or `grpc-timeout: <digits><unit>`.
fn stated_budget(headers: &HeaderMap) -> Option<Duration> {
    if let Some(seconds) = headers.get("request-timeout").and_then(|v| v.to_str().ok()) {
        return seconds.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    }
    if let Some(millis) = headers.get("connect-timeout-ms") {
        return transcode::connect::timeout(millis.as_bytes());
    }
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let number: u64 = (number.len() <= 8).then_some(number)?.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(name: &'static str, value: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        stated_budget(&headers)
    }

    #[test]
    fn deadlines_of_all_protocols_are_read() {
        assert_eq!(budget("request-timeout", "1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(budget("grpc-timeout", "250m"), Some(Duration::from_millis(250)));
        assert_eq!(budget("connect-timeout-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(budget("grpc-timeout", "2S"), Some(Duration::from_secs(2)));
        for (name, value) in [
            ("request-timeout", "-1"),
            ("request-timeout", "soon"),
            ("connect-timeout-ms", "1s"),
            ("grpc-timeout", "5"),
            ("grpc-timeout", "999999999S"),
            ("grpc-timeout", ""),
        ] {
            assert_eq!(budget(name, value), None, "{name}: {value}");
        }
    }

    #[test]
    fn a_clients_deadline_shortens_but_never_extends() {
        let caller = Arc::new(Caller::anonymous(0));
        let id = HeaderValue::from_static("x");
        let client = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut context = Context::new(Listener::Public, client, Instant::now(), caller, (id.clone(), id));
        let mut headers = HeaderMap::new();
        headers.insert("request-timeout", HeaderValue::from_static("600"));
        context.limit(Duration::from_secs(30), &headers, super::super::headers::scan(&headers));
        assert_eq!(context.deadline, context.start + Duration::from_secs(30));
        assert!(!context.client_deadline);
        headers.insert("request-timeout", HeaderValue::from_static("0.5"));
        context.limit(Duration::from_secs(30), &headers, super::super::headers::scan(&headers));
        assert_eq!(context.deadline, context.start + Duration::from_millis(500));
        assert!(context.client_deadline);
    }
}
