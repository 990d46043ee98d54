//! Request ids and W3C trace context: continued from the caller where valid, made here otherwise.

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::cell::Cell;

/// `x-request-id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `traceparent`.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The request's id and the `traceparent` of the gateway's own span.
pub fn ids(headers: &HeaderMap) -> (HeaderValue, HeaderValue) {
    let mut buffer = BytesMut::with_capacity(32 + 55);
    let request_id = headers.get(&REQUEST_ID).filter(|id| valid_id(id.as_bytes())).cloned();
    let request_id = request_id.unwrap_or_else(|| {
        put_hex(&mut buffer, random());
        put_hex(&mut buffer, random());
        value(buffer.split())
    });
    match headers.get(&TRACEPARENT).map(HeaderValue::as_bytes).filter(|parent| valid_parent(parent)) {
        Some(parent) => {
            buffer.put_slice(&parent[..36]);
            put_hex(&mut buffer, random() | 1);
            buffer.put_slice(&parent[52..55]);
        }
        None => {
            buffer.put_slice(b"00-");
            put_hex(&mut buffer, random() | 1);
            put_hex(&mut buffer, random());
            buffer.put_u8(b'-');
            put_hex(&mut buffer, random() | 1);
            buffer.put_slice(b"-01");
        }
    }
    (request_id, value(buffer))
}

/// A trace of its own, for what no request asks for.
pub fn fresh() -> String {
    let (_, traceparent) = ids(&HeaderMap::new());
    traceparent.to_str().unwrap_or_default().to_owned()
}

fn value(bytes: BytesMut) -> HeaderValue {
    // Hexadecimal digits and hyphens are always valid.
    HeaderValue::from_maybe_shared(bytes.freeze()).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

fn valid_id(id: &[u8]) -> bool {
    (1..=64).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
}

/// Version 00: `00-<32 hex>-<16 hex>-<2 hex>`, lower case, neither id all zeros.
fn valid_parent(parent: &[u8]) -> bool {
    let hex =
        |range: std::ops::Range<usize>| parent[range].iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let some = |range: std::ops::Range<usize>| parent[range].iter().any(|&b| b != b'0');
    parent.len() == 55
        && parent.starts_with(b"00-")
        && parent[35] == b'-'
        && parent[52] == b'-'
        && hex(3..35)
        && hex(36..52)
        && hex(53..55)
        && some(3..35)
        && some(36..52)
}

fn put_hex(out: &mut BytesMut, number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 16];
    for (i, digit) in text.iter_mut().enumerate() {
        *digit = DIGITS[(number >> (60 - 4 * i) & 15) as usize];
    }
    out.put_slice(&text);
}

/// Ids must not repeat; they need not be secret: a splitmix64 generator a thread, seeded by the system.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    thread_local!(static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(std::thread::current().id())));
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mut z = next;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: HeaderName, text: &'static str) -> (String, String) {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(text));
        let (id, parent) = ids(&headers);
        (id.to_str().unwrap().into(), parent.to_str().unwrap().into())
    }

    #[test]
    fn a_valid_trace_continues_with_a_span_of_our_own() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let (_, ours) = made(TRACEPARENT, parent);
        assert_eq!((&ours[..36], &ours[52..]), (&parent[..36], &parent[52..]));
        assert_ne!(&ours[36..52], &parent[36..52]);
        assert!(valid_parent(ours.as_bytes()));
    }

    #[test]
    fn what_is_invalid_is_made_anew() {
        for bad in [
            "",
            "00-x",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        ] {
            let (_, ours) = made(TRACEPARENT, bad);
            assert!(valid_parent(ours.as_bytes()) && ours.ends_with("-01"), "{bad} became {ours}");
        }
        for bad in
            ["", "a b", "a\"b", "0123456789012345678901234567890123456789012345678901234567890123456789"]
        {
            assert_eq!(made(REQUEST_ID, bad).0.len(), 32, "{bad}");
        }
        assert_eq!(made(REQUEST_ID, "order-7.a_B").0, "order-7.a_B");
    }
}
