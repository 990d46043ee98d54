//! What protects people's browsers: the Host check (DNS rebinding), the Origin check (foreign pages, WebSocket
//! hijacking), and CORS for the origins that are configured.

use super::{
    body::Body,
    headers::Scan,
    problem::{Code, Problem},
};
use crate::config;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

/// The public listener's rules.
pub struct Browser {
    hosts: Option<Vec<String>>,
    origins: Vec<String>,
    cors: Option<CorsHeaders>,
}

struct CorsHeaders {
    methods: HeaderValue,
    headers: HeaderValue,
    max_age: HeaderValue,
}

impl Browser {
    /// From the configuration; a `*` among the hosts turns the Host check off.
    pub fn new(config: &config::Public) -> Self {
        let lower = |items: &[String]| items.iter().map(|s| s.to_ascii_lowercase()).collect::<Vec<_>>();
        let any = config.hosts.0.iter().any(|host| host == "*");
        let joined = |items: &[String]| {
            HeaderValue::try_from(items.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
        };
        let cors = config.cors.as_ref().map(|cors| CorsHeaders {
            methods: joined(&cors.methods.0),
            headers: joined(&cors.headers.0),
            max_age: cors.max_age.0.as_secs().into(),
        });
        Self { hosts: (!any).then(|| lower(&config.hosts.0)), origins: lower(&config.origins.0), cors }
    }

    /// Checks Host and Origin; `found` is the scan of the headers.
    pub fn check(&self, headers: &HeaderMap, found: Scan) -> Result<(), Problem> {
        let host = headers.get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
        let known = |allowed: &Vec<String>| {
            allowed.iter().any(|a| a.as_bytes().eq_ignore_ascii_case(host_name(host)))
        };
        if found.hosts > 1 || self.hosts.as_ref().is_some_and(|allowed| !known(allowed)) {
            return Err(Problem::new(
                Code::HostNotAllowed,
                "The gateway does not answer for this host name.",
            ));
        }
        let origin = if found.origin { headers.get(header::ORIGIN) } else { None };
        match origin {
            Some(origin) if !self.allows(origin.as_bytes(), host) => {
                Err(Problem::new(Code::OriginNotAllowed, "Pages of this origin may not call."))
            }
            _ => Ok(()),
        }
    }

    fn allows(&self, origin: &[u8], host: &[u8]) -> bool {
        let authority = [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) || self.foreign(origin)
    }

    fn foreign(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|o| o.as_bytes().eq_ignore_ascii_case(origin))
    }

    /// The answer to a preflight, when sharing is configured.
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response<Body>> {
        let cors = self.cors.as_ref()?;
        if method != Method::OPTIONS || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        let origin = headers.get(header::ORIGIN)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let out = response.headers_mut();
        share(out, origin);
        out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, cors.methods.clone());
        out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, cors.headers.clone());
        out.insert(header::ACCESS_CONTROL_MAX_AGE, cors.max_age.clone());
        Some(response)
    }

    /// The origin to share a response with; `None` for most requests.
    pub fn shared_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        self.cors.as_ref()?;
        headers.get(header::ORIGIN).filter(|origin| self.foreign(origin.as_bytes())).cloned()
    }
}

/// Lets `origin` read the response; what the upstream said about sharing is replaced.
pub fn share(headers: &mut HeaderMap, origin: &HeaderValue) {
    const EXPOSED: &str = "etag, location, link, retry-after, server-timing, x-request-id, \
                           grpc-status, grpc-message, grpc-status-details-bin, connect-content-encoding";
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

/// The host without its port.
fn host_name(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|&b| b == b':') {
        Some(colon) if host[colon + 1..].iter().all(u8::is_ascii_digit) && host.last() != Some(&b']') => {
            &host[..colon]
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cors, List, Public};

    fn refusal(browser: &Browser, host: &'static str, origin: Option<&'static str>) -> Option<Code> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        origin.map(|o| headers.insert(header::ORIGIN, HeaderValue::from_static(o)));
        browser.check(&headers, super::super::headers::scan(&headers)).err().map(|p| p.code())
    }

    #[test]
    fn only_known_hosts_are_answered() {
        let browser = Browser::new(&Public::default());
        for good in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]", "[::1]:8080"] {
            assert_eq!(refusal(&browser, good, None), None, "{good}");
        }
        for bad in ["", "evil.example", "localhost.evil.example", "localhost:80:80", "[::2]:8080"] {
            assert_eq!(refusal(&browser, bad, None), Some(Code::HostNotAllowed), "{bad}");
        }
        let any = Browser::new(&Public { hosts: List(vec!["*".into()]), ..Public::default() });
        assert_eq!(refusal(&any, "evil.example", None), None);
    }

    #[test]
    fn two_hosts_are_no_host() {
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, HeaderValue::from_static("localhost"));
        headers.append(header::HOST, HeaderValue::from_static("evil.example"));
        let found = super::super::headers::scan(&headers);
        assert!(Browser::new(&Public::default()).check(&headers, found).is_err());
    }

    #[test]
    fn only_our_own_and_configured_origins_may_call() {
        let browser =
            Browser::new(&Public { origins: List(vec!["https://app.example".into()]), ..Public::default() });
        for good in ["http://localhost:8080", "https://localhost:8080", "https://app.example"] {
            assert_eq!(refusal(&browser, "localhost:8080", Some(good)), None, "{good}");
        }
        for bad in [
            "null",
            "http://localhost",
            "http://localhost:3000",
            "http://app.example",
            "https://app.example.evil",
        ] {
            assert_eq!(refusal(&browser, "localhost:8080", Some(bad)), Some(Code::OriginNotAllowed), "{bad}");
        }
    }

    #[test]
    fn sharing_is_off_unless_configured() {
        let preflight: HeaderMap = [
            (header::ORIGIN, HeaderValue::from_static("https://app.example")),
            (header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT")),
        ]
        .into_iter()
        .collect();
        let off =
            Browser::new(&Public { origins: List(vec!["https://app.example".into()]), ..Public::default() });
        assert!(
            off.preflight(&Method::OPTIONS, &preflight).is_none() && off.shared_origin(&preflight).is_none()
        );
        let config = Public {
            origins: List(vec!["https://app.example".into()]),
            cors: Some(Cors::default()),
            ..Public::default()
        };
        let on = Browser::new(&config);
        let answer = on.preflight(&Method::OPTIONS, &preflight).unwrap();
        assert_eq!(answer.headers()["access-control-allow-origin"], "https://app.example");
        assert!(on.preflight(&Method::GET, &preflight).is_none());
        assert!(on.shared_origin(&preflight).is_some());
    }
}
