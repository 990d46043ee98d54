//! A request's head in the form in which it is sent: written once, straight from the client's headers, and kept until
//! the response comes, in case it must be sent again.

use http::{HeaderName, HeaderValue, Method};

/// Room for a usual head, so that the buffer does not grow.
const USUAL: usize = 1024;

/// A head that is being written. What frames the body is added when it is sent.
pub struct RequestHead {
    bytes: Vec<u8>,
    method: Method,
}

impl RequestHead {
    /// Begins a head; `target` is the path with the query.
    pub fn new(method: Method, target: &str) -> Self {
        let mut bytes = Vec::with_capacity(USUAL);
        bytes.extend_from_slice(method.as_str().as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(target.as_bytes());
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        Self { bytes, method }
    }

    /// Adds a header. The types rule out what could end the line early.
    pub fn header(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.bytes.extend_from_slice(name.as_str().as_bytes());
        self.line(": ", value);
    }

    /// Adds a header whose name is known when this is compiled: `name: ` with the colon and the space.
    pub fn line(&mut self, name: &'static str, value: &HeaderValue) {
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Adds whole lines, each with its end.
    pub fn lines(&mut self, lines: &[u8]) {
        self.bytes.extend_from_slice(lines);
    }

    /// Whether it may reach an upstream twice when there is no body (RFC 9110, 9.2.2).
    pub(super) fn is_idempotent(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
    }

    /// Whether the response has a head only.
    pub(super) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// Ends the head, for a body of this length or of an unknown one.
    pub(super) fn finish(mut self, length: Option<u64>) -> Vec<u8> {
        match length {
            None => self.bytes.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            // Without content, only the methods that usually have some say so (RFC 9110, 8.6).
            Some(0) if !matches!(self.method, Method::POST | Method::PUT | Method::PATCH) => {}
            Some(length) => self.line("content-length: ", &HeaderValue::from(length)),
        }
        self.bytes.extend_from_slice(b"\r\n");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: Method, length: Option<u64>) -> String {
        let mut head = RequestHead::new(method, "/a?b=c");
        head.header(&http::header::ACCEPT, &HeaderValue::from_static("*/*"));
        String::from_utf8(head.finish(length)).unwrap()
    }

    #[test]
    fn the_body_frames_the_head() {
        assert_eq!(head(Method::GET, Some(0)), "GET /a?b=c HTTP/1.1\r\naccept: */*\r\n\r\n");
        assert_eq!(
            head(Method::POST, Some(0)),
            "POST /a?b=c HTTP/1.1\r\naccept: */*\r\ncontent-length: 0\r\n\r\n"
        );
        assert_eq!(
            head(Method::GET, Some(7)),
            "GET /a?b=c HTTP/1.1\r\naccept: */*\r\ncontent-length: 7\r\n\r\n"
        );
        assert_eq!(
            head(Method::PUT, None),
            "PUT /a?b=c HTTP/1.1\r\naccept: */*\r\ntransfer-encoding: chunked\r\n\r\n"
        );
    }
}
