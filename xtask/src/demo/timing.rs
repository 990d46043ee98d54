//! The `server-timing` header: where a request's time went, hop by hop.

use std::time::Duration;

use serde::Serialize;

/// One entry of the header.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hop {
    /// `gateway`, `upstream`, or what the upstream names itself.
    pub name: String,
    /// Milliseconds.
    pub ms: f64,
}

/// Reads the header's value; entries without a duration are left out.
pub(super) fn parse(header: &str) -> Vec<Hop> {
    let hop = |entry: &str| {
        let mut parts = entry.split(';').map(str::trim);
        let name = parts.next()?.to_owned();
        let ms = parts.find_map(|part| part.strip_prefix("dur=")?.trim_matches('"').parse().ok())?;
        Some(Hop { name, ms })
    };
    header.split(',').filter_map(hop).collect()
}

/// `12.1 ms: gateway 0.4 · upstream 10.2 (queue 0.1 · inference 9.0)`, all in milliseconds.
pub(super) fn describe(total: Duration, hops: &[Hop]) -> String {
    let total = format!("{:.1} ms", total.as_secs_f64() * 1e3);
    if hops.is_empty() {
        return total;
    }
    let edge = |hop: &&Hop| hop.name == "gateway" || hop.name == "upstream";
    let list = |hops: Vec<&Hop>| {
        let parts: Vec<_> = hops.iter().map(|hop| format!("{} {:.1}", hop.name, hop.ms)).collect();
        parts.join(" · ")
    };
    let inner = list(hops.iter().filter(|hop| !edge(hop)).collect());
    let inner = if inner.is_empty() { inner } else { format!(" ({inner})") };
    format!("{total}: {}{inner}", list(hops.iter().filter(edge).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_read_and_described() {
        let hops = parse("gateway;dur=0.4, upstream;dur=10.2, queue;desc=\"x\";dur=0.1, cache");
        assert_eq!(hops.len(), 3);
        let text = describe(Duration::from_micros(12_100), &hops);
        assert_eq!(text, "12.1 ms: gateway 0.4 · upstream 10.2 (queue 0.1)");
        assert_eq!(describe(Duration::from_millis(2), &[]), "2.0 ms");
    }
}
