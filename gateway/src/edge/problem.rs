//! The catalogue of public errors, and how they look: RFC 9457 problem documents over HTTP, a status over native
//! gRPC, and in `rpc` the forms of gRPC-Web and Connect. Details never name internals (addresses, causes); those
//! are logged.

mod rpc;

use super::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use std::borrow::Cow;
use transcode::{connect, connect::Codec};

macro_rules! catalogue {
    ($($(#[$doc:meta])* $code:ident = $name:literal, $status:literal, $grpc:literal, $title:literal;)*) => {
        /// Every code that a caller can see. Codes are stable; texts may change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $code,)* }
        impl Code {
            /// The whole catalogue.
            pub const ALL: &[Self] = &[$(Self::$code,)*];
            /// The code as it appears in documents and metrics.
            pub const fn name(self) -> &'static str { match self { $(Self::$code => $name,)* } }
            /// The HTTP status.
            pub const fn status(self) -> u16 { match self { $(Self::$code => $status,)* } }
            /// The gRPC status code for native gRPC callers.
            pub const fn grpc_status(self) -> u8 { match self { $(Self::$code => $grpc,)* } }
            /// The title, the same for every occurrence.
            pub const fn title(self) -> &'static str { match self { $(Self::$code => $title,)* } }
        }
    };
}

catalogue! {
    /// No route or method has this path, or the named thing does not exist.
    NotFound = "not_found", 404, 5, "Not found";
    /// The path exists, but not with this method.
    MethodNotAllowed = "method_not_allowed", 405, 12, "Method not allowed";
    /// The request's content is wrong; `errors` says where.
    InvalidArgument = "invalid_argument", 400, 3, "Invalid request";
    /// The content type is not one that the route reads.
    UnsupportedMediaType = "unsupported_media_type", 415, 3, "Unsupported media type";
    /// None of the forms that the client accepts is there; `detail` says which are.
    NotAcceptable = "not_acceptable", 406, 3, "Not acceptable";
    /// A valid token is needed.
    Unauthenticated = "unauthenticated", 401, 16, "Not authenticated";
    /// The token was valid once.
    TokenExpired = "token_expired", 401, 16, "Token expired";
    /// The caller is known and may not do this.
    PermissionDenied = "permission_denied", 403, 7, "Permission denied";
    /// A browser page of this origin may not call.
    OriginNotAllowed = "origin_not_allowed", 403, 7, "Origin not allowed";
    /// The gateway does not answer for this host name.
    HostNotAllowed = "host_not_allowed", 421, 7, "Host not allowed";
    /// The body exceeds the limit.
    BodyTooLarge = "body_too_large", 413, 8, "Body too large";
    /// The request's head exceeds the limit.
    HeadersTooLarge = "headers_too_large", 431, 8, "Headers too large";
    /// The client did not send its request in time.
    RequestTimeout = "request_timeout", 408, 4, "Request timeout";
    /// The thing exists already.
    AlreadyExists = "already_exists", 409, 6, "Already exists";
    /// A concurrent change came first.
    Aborted = "aborted", 409, 10, "Aborted by a concurrent change";
    /// The state does not allow the operation.
    FailedPrecondition = "failed_precondition", 400, 9, "Precondition failed";
    /// A value lies outside the valid range.
    OutOfRange = "out_of_range", 400, 11, "Out of range";
    /// A quota is used up.
    ResourceExhausted = "resource_exhausted", 429, 8, "Too many requests";
    /// The caller gave up.
    Cancelled = "cancelled", 499, 1, "Cancelled";
    /// The upstream does not implement the method, or the gateway what CONNECT asks for.
    Unimplemented = "unimplemented", 501, 12, "Not implemented";
    /// Something failed that should not.
    Internal = "internal", 500, 13, "Internal error";
    /// The upstream failed without saying how.
    Unknown = "unknown", 500, 2, "Unknown error";
    /// Data was lost.
    DataLoss = "data_loss", 500, 15, "Data loss";
    /// The upstream broke the connection or spoke nonsense.
    BadGateway = "bad_gateway", 502, 14, "Bad gateway";
    /// The upstream cannot be reached, or says that it cannot serve.
    UpstreamUnavailable = "upstream_unavailable", 503, 14, "Upstream unavailable";
    /// The gateway or the upstream has too much to do.
    Overloaded = "overloaded", 503, 14, "Overloaded";
    /// The gateway is stopping.
    Draining = "draining", 503, 14, "Stopping";
    /// The upstream did not answer in time.
    GatewayTimeout = "gateway_timeout", 504, 4, "Upstream timeout";
}

/// What a document's `type` begins with; the code follows.
pub const TYPE: &str = "urn:hybrid:problem:";
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where: `texts[0]`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// An error to answer with.
#[derive(Clone, Debug)]
pub struct Problem {
    code: Code,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    /// The application's own code.
    reason: String,
    retry_after: Option<u64>,
    allow: Option<String>,
    content: Option<Box<(HeaderValue, Bytes)>>,
}

/// How the caller wants errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `application/problem+json`.
    Document,
    /// A gRPC status in the response's head.
    Grpc,
    /// The same, for a client that reads bodies of `application/grpc-web`, or of its text form.
    GrpcWeb {
        /// Bodies are base64.
        text: bool,
    },
    /// Connect's JSON with its HTTP status.
    ConnectUnary,
    /// A Connect stream that ends with the error.
    ConnectStream(Codec),
}

impl Style {
    /// What the content type alone says. A unary Connect request looks like any other: its path decides.
    pub fn of(headers: &http::HeaderMap) -> Self {
        let value = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if let Some(rest) = value.strip_prefix(b"application/grpc") {
            let ends = |rest: &[u8]| matches!(rest, [] | [b'+' | b';' | b' ', ..]);
            return match (rest.strip_prefix(b"-web-text"), rest.strip_prefix(b"-web")) {
                (Some(rest), _) if ends(rest) => Self::GrpcWeb { text: true },
                (_, Some(rest)) if ends(rest) => Self::GrpcWeb { text: false },
                _ if matches!(rest, [] | [b'+' | b';', ..]) => Self::Grpc,
                _ => Self::Document,
            };
        }
        match value.starts_with(b"application/connect+").then(|| connect::content_type(value)) {
            Some(Some((codec, true))) => Self::ConnectStream(codec),
            _ => Self::Document,
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

impl Problem {
    /// A problem; codes of the kind "later it may work" get a Retry-After of one second.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let later = matches!(code, Code::UpstreamUnavailable | Code::Overloaded | Code::Draining);
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            reason: String::new(),
            retry_after: later.then_some(1),
            allow: None,
            content: None,
        }
    }

    /// Names the fields that are wrong.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Adds the application's own code, where it is the application that refuses.
    #[must_use]
    pub fn with_reason(mut self, reason: String) -> Self {
        self.reason = reason;
        self
    }

    /// Says after how many seconds it may work.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Names the methods that the path has (`GET, POST`).
    #[must_use]
    pub fn with_allow(mut self, allow: String) -> Self {
        self.allow = Some(allow);
        self
    }

    /// Puts content of the upstream's own in the document's place, over HTTP.
    #[must_use]
    pub fn with_content(mut self, content_type: HeaderValue, data: Bytes) -> Self {
        self.content = Some(Box::new((content_type, data)));
        self
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The JSON document, also for an event in a stream that has begun.
    pub fn document(&self, request_id: &str) -> Vec<u8> {
        let document = Document {
            kind: format!("{TYPE}{}", self.code.name()),
            title: self.code.title(),
            status: self.code.status(),
            code: self.code.name(),
            detail: &self.detail,
            request_id,
            errors: &self.errors,
            reason: &self.reason,
        };
        serde_json::to_vec(&document).unwrap_or_default()
    }

    /// The response.
    pub fn response(&self, request_id: &HeaderValue, style: Style) -> Response<Body> {
        match style {
            Style::Document => self.http(request_id),
            Style::Grpc => self.grpc(),
            style => self.rpc(request_id, style),
        }
    }

    fn http(&self, request_id: &HeaderValue) -> Response<Body> {
        let document = || self.document(request_id.to_str().unwrap_or_default()).into();
        let (content_type, body) =
            self.content.as_deref().cloned().unwrap_or_else(|| (PROBLEM_JSON, document()));
        let mut response = Response::new(Body::full(body));
        *response.status_mut() =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type);
        if self.content.is_some() {
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        self.advise(headers);
        response
    }

    /// What a caller can do next, as headers.
    fn advise(&self, headers: &mut http::HeaderMap) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(Ok(allow)) = self.allow.as_deref().map(HeaderValue::try_from) {
            headers.insert(header::ALLOW, allow);
        }
        match self.code {
            Code::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Code::TokenExpired => {
                let value = "Bearer error=\"invalid_token\", error_description=\"the token has expired\"";
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(value));
            }
            _ => {}
        }
    }

    fn grpc(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", u16::from(self.code.grpc_status()).into());
        let message = HeaderValue::try_from(percent_message(&self.detail));
        headers.insert("grpc-message", message.unwrap_or_else(|_| HeaderValue::from_static("")));
        response
    }
}

/// `grpc-message` is percent-encoded outside printable ASCII.
fn percent_message(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => {
                let _ = write!(out, "%{byte:02X}");
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: HeaderValue = HeaderValue::from_static("req-1");

    #[test]
    fn a_document_has_the_members_that_clients_rely_on() {
        let errors = vec![FieldError { field: "texts[0]".into(), description: "empty".into() }];
        let problem = Problem::new(Code::InvalidArgument, "one field is wrong").with_errors(errors);
        let json: serde_json::Value = serde_json::from_slice(&problem.document("req-1")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"type": "urn:hybrid:problem:invalid_argument", "title": "Invalid request", "status": 400,
                "code": "invalid_argument", "detail": "one field is wrong", "request_id": "req-1",
                "errors": [{"field": "texts[0]", "description": "empty"}]})
        );
    }

    #[test]
    fn headers_say_what_to_do_next() {
        let unavailable = Problem::new(Code::UpstreamUnavailable, "x").response(&ID, Style::Document);
        assert_eq!(
            (unavailable.status().as_u16(), &unavailable.headers()["retry-after"]),
            (503, &HeaderValue::from(1))
        );
        let unauthenticated = Problem::new(Code::Unauthenticated, "x").response(&ID, Style::Document);
        assert_eq!(unauthenticated.headers()["www-authenticate"], "Bearer");
        let method =
            Problem::new(Code::MethodNotAllowed, "x").with_allow("GET".into()).response(&ID, Style::Document);
        assert_eq!(method.headers()["allow"], "GET");
    }

    #[test]
    fn native_grpc_callers_get_a_status() {
        let mut headers = http::HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/grpc+proto"));
        assert_eq!(Style::of(&headers), Style::Grpc);
        let response = Problem::new(Code::PermissionDenied, "né\n").response(&ID, Style::Grpc);
        assert_eq!(
            (response.status().as_u16(), &response.headers()["grpc-status"]),
            (200, &HeaderValue::from(7))
        );
        assert_eq!(response.headers()["grpc-message"], "n%C3%A9%0A");
    }
}
