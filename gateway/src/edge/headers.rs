//! Header hygiene between two hops: what belongs to one connection stays there, what only the gateway may say is
//! stripped from what others say, and the forwarding headers are written anew.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version, header};
use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

/// The identity that the gateway passes on.
pub const IDENTITY: HeaderName = HeaderName::from_static("x-hybrid-identity");
/// The identity for which a service acts.
pub const ON_BEHALF_OF: HeaderName = HeaderName::from_static("x-hybrid-on-behalf-of");
/// The remaining budget in seconds.
pub const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("request-timeout");
/// Timings of each hop, for the caller.
pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const OURS: &str = "x-hybrid-";

/// What one look over a head's names finds, so that the usual head costs no further look-ups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Bytes of all names and values.
    pub size: usize,
    /// A header of this connection only is there.
    pub hop: bool,
    /// A header is there that only the gateway may set.
    pub ours: bool,
    /// An upgrade is asked for or granted.
    pub upgrade: bool,
    /// A browser says which page it calls for.
    pub origin: bool,
    /// The caller states its own deadline.
    pub deadline: bool,
    /// How many `host` headers there are.
    pub hosts: u8,
}

/// Looks over a head once.
pub fn scan(headers: &HeaderMap) -> Scan {
    let mut found = Scan::default();
    for (name, value) in headers {
        let name = name.as_str();
        found.size += name.len() + value.len() + 4;
        match name {
            "host" => found.hosts = found.hosts.saturating_add(1),
            "origin" => found.origin = true,
            "request-timeout" | "grpc-timeout" | "connect-timeout-ms" => found.deadline = true,
            "upgrade" => (found.upgrade, found.hop) = (true, true),
            _ if is_hop(name) => found.hop = true,
            _ if name.starts_with(OURS) => found.ours = true,
            _ => {}
        }
    }
    found
}

/// Whether a request must not be forwarded (RFC 9113, 8.2.1): in HTTP/2 no blanks stand around a value. In HTTP/1 they
/// mean nothing, and the parser has taken them off.
pub fn is_malformed<B>(request: &Request<B>) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let mut values = request.headers().values().map(HeaderValue::as_bytes);
    request.version() == Version::HTTP_2 && values.any(|it| is_blank(it.first()) || is_blank(it.last()))
}

fn is_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "expect"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether a header may pass to the next hop, unless `connection` names it.
pub fn passes(name: &str) -> bool {
    !is_hop(name) && !name.starts_with(OURS)
}

/// The header that one entry of `connection` ties to this hop. A peer may name its own extensions, not what frames
/// or addresses the message.
pub fn named_by_connection(token: &[u8]) -> Option<HeaderName> {
    let fixed = |name: &HeaderName| {
        is_hop(name.as_str())
            || matches!(name.as_str(), "close" | "host" | "content-length" | "cookie" | "authorization")
    };
    HeaderName::from_bytes(token).ok().filter(|name| !fixed(name))
}

/// All headers that `connection` ties to this hop.
pub fn tied(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter();
    let tokens = values.flat_map(|value| value.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii));
    tokens.filter_map(named_by_connection).collect()
}

/// Removes what does not pass.
pub fn strip(headers: &mut HeaderMap, found: Scan) {
    if !found.hop && !found.ours {
        return;
    }
    let mut doomed = tied(headers);
    doomed.extend(headers.keys().filter(|name| !passes(name.as_str())).cloned());
    for name in doomed {
        headers.remove(name);
    }
}

/// Removes every copy of the headers that only the gateway may set.
pub fn strip_ours(headers: &mut HeaderMap) {
    let doomed: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(OURS)).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Whether `connection` lists `token`.
pub fn connection_has(headers: &HeaderMap, token: &[u8]) -> bool {
    let mut values = headers.get_all(header::CONNECTION).iter();
    values.any(|v| v.as_bytes().split(|&b| b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(token)))
}

/// `forwarded` and its older relatives for one client connection; rendered once for each host that it names.
pub struct Forwarded {
    client: String,
    node: String,
    last: Mutex<Option<(HeaderValue, Bytes)>>,
}

impl Forwarded {
    /// For connections from `client`.
    pub fn new(client: IpAddr) -> Self {
        let client = client.to_canonical();
        let node = if client.is_ipv6() { format!("\"[{client}]\"") } else { client.to_string() };
        Self { client: client.to_string(), node, last: Mutex::new(None) }
    }

    /// Whether a header is one of those in `lines`, so that what the client claimed goes.
    pub fn replaces(name: &str) -> bool {
        matches!(name, "forwarded" | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto")
    }

    /// The headers as lines of HTTP/1.1.
    pub fn lines(&self, host: Option<&HeaderValue>) -> Bytes {
        let Some(host) = host else { return self.render(None).into() };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, lines)) = last.as_ref().filter(|(known, _)| known == host) {
            return lines.clone();
        }
        let lines = Bytes::from(self.render(Some(host)));
        *last = Some((host.clone(), lines.clone()));
        lines
    }

    fn render(&self, host: Option<&HeaderValue>) -> String {
        let client = &self.client;
        let mut lines = format!("x-forwarded-for: {client}\r\nx-forwarded-proto: http\r\n");
        // A host that is no text is none that an upstream could use.
        if let Some(host) = host.and_then(|host| host.to_str().ok()) {
            let (node, quotable) = (&self.node, host.replace(['"', '\\'], ""));
            lines += &format!(
                "forwarded: for={node};host=\"{quotable}\";proto=http\r\nx-forwarded-host: {host}\r\n"
            );
        }
        lines
    }
}

/// `server-timing` of a response: the gateway's own time, the upstream's, and what the upstream said itself.
pub fn server_timing(total: u32, upstream: Option<u32>, theirs: Option<&HeaderValue>) -> HeaderValue {
    let mut out = Vec::with_capacity(48 + theirs.map_or(0, |t| t.len() + 2));
    out.extend_from_slice(b"gateway;dur=");
    put_millis(&mut out, total.saturating_sub(upstream.unwrap_or(0)));
    if let Some(upstream) = upstream {
        out.extend_from_slice(b", upstream;dur=");
        put_millis(&mut out, upstream);
    }
    if let Some(theirs) = theirs {
        out.extend_from_slice(b", ");
        out.extend_from_slice(theirs.as_bytes());
    }
    HeaderValue::from_maybe_shared(Bytes::from(out)).unwrap_or_else(|_| HeaderValue::from_static("gateway"))
}

/// Microseconds as milliseconds with three decimals. Digit by digit: formatting costs more than the rest of the line.
fn put_millis(out: &mut Vec<u8>, micros: u32) {
    let mut text = *b"0000000.000";
    let (mut rest, mut at) = (micros, text.len());
    while rest > 0 {
        at -= if at == 8 { 2 } else { 1 };
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&text[at.min(6)..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Secret-Hop, content-length"),
            ("x-secret-hop", "1"),
            ("content-length", "3"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "x"),
            ("accept", "*/*"),
        ]);
        let found = scan(&headers);
        assert!(found.hop && found.upgrade && !found.ours);
        assert_eq!(tied(&headers), [HeaderName::from_static("x-secret-hop")]);
        strip(&mut headers, found);
        assert_eq!(headers, map(&[("content-length", "3"), ("accept", "*/*")]));
    }

    #[test]
    fn spoofed_headers_of_ours_do_not_pass() {
        let mut headers =
            map(&[("x-hybrid-identity", "forged"), ("x-hybrid-anything", "1"), ("accept", "*/*")]);
        assert!(scan(&headers).ours && !passes("x-hybrid-identity") && !passes("x-hybrid-anything"));
        strip_ours(&mut headers);
        assert_eq!(headers, map(&[("accept", "*/*")]));
    }

    #[test]
    fn forwarding_headers_replace_what_the_client_claims() {
        let lines = |forwarded: &Forwarded, host: Option<&'static str>| {
            let host = host.map(HeaderValue::from_static);
            let text = String::from_utf8(forwarded.lines(host.as_ref()).to_vec()).unwrap();
            text.split_terminator("\r\n").map(String::from).collect::<Vec<_>>()
        };
        let forwarded = Forwarded::new([127, 0, 0, 1].into());
        let got = lines(&forwarded, Some("a.example:80"));
        let expected = [
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-proto: http",
            "forwarded: for=127.0.0.1;host=\"a.example:80\";proto=http",
            "x-forwarded-host: a.example:80",
        ];
        assert_eq!(got, expected);
        assert_eq!(lines(&forwarded, Some("a.example:80")), expected);
        assert!(got.iter().all(|line| Forwarded::replaces(line.split(':').next().unwrap())));
        assert!(!Forwarded::replaces("x-forwarded-port"));
        assert_eq!(lines(&forwarded, Some("b.example"))[3], "x-forwarded-host: b.example");
        assert_eq!(lines(&forwarded, None), expected[..2]);
        let v6 = Forwarded::new("::1".parse().unwrap());
        assert_eq!(lines(&v6, Some("c"))[2], "forwarded: for=\"[::1]\";host=\"c\";proto=http");
    }

    #[test]
    fn timings_split_the_total() {
        let theirs = HeaderValue::from_static("db;dur=1");
        assert_eq!(server_timing(2500, Some(2044), None), "gateway;dur=0.456, upstream;dur=2.044");
        assert_eq!(
            server_timing(2500, Some(2000), Some(&theirs)),
            "gateway;dur=0.500, upstream;dur=2.000, db;dur=1"
        );
        assert_eq!(server_timing(7, None, None), "gateway;dur=0.007");
        for (micros, text) in [(0, "0.000"), (10, "0.010"), (1000, "1.000"), (u32::MAX, "4294967.295")] {
            assert_eq!(server_timing(micros, None, None), format!("gateway;dur={text}"));
        }
    }
}
