//! What goes with every call to an upstream: the caller's identity, the request's ids and the remaining budget.

use super::Endpoint;
use crate::edge::{Context, headers::IDENTITY, trace::REQUEST_ID, trace::TRACEPARENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::{Duration, Instant};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Writes them; earlier copies go.
pub(super) fn write(headers: &mut HeaderMap, endpoint: &Endpoint, context: &Context) {
    headers.insert(REQUEST_ID, context.request_id.clone());
    headers.insert(TRACEPARENT, context.traceparent.clone());
    headers.insert(GRPC_TIMEOUT, timeout(context.remaining()));
    if let Some(minter) = &endpoint.upstream.minter {
        headers.insert(IDENTITY, minter.identity(&context.caller, Instant::now()));
    }
}

/// `grpc-timeout`: at most 8 digits and a unit.
fn timeout(left: Duration) -> HeaderValue {
    let micros = left.as_micros();
    let text = if micros < 100_000_000 {
        format!("{micros}u")
    } else {
        format!("{}m", left.as_millis().min(99_999_999))
    };
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("0u"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_at_most_eight_digits() {
        for (left, expected) in [
            (Duration::ZERO, "0u"),
            (Duration::from_micros(1500), "1500u"),
            (Duration::from_secs(99), "99000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(1_000_000), "99999999m"),
        ] {
            assert_eq!(timeout(left), expected);
        }
    }
}
