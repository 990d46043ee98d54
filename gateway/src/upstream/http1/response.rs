//! Reading a response's head (RFC 9112): the headers that may pass to the next hop, and how the body is framed.

use super::framing::Framing;
use crate::edge::headers;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::mem::MaybeUninit;

/// A head over this is no answer.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 128;
/// What the gateway itself adds, so that the map does not grow and rehash.
const ADDED: usize = 4;

/// What comes before a body.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: StatusCode,
    /// Without what belongs to this connection only.
    pub(super) headers: HeaderMap,
    /// The protocol that a 101 changes to.
    pub(super) upgrade: Option<HeaderValue>,
    pub(super) framing: Framing,
    /// The connection may serve again after the body.
    pub(super) keep_alive: bool,
}

/// Why what came is not a response.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum BadHead {
    #[error("the response's head has more than {MAX_HEAD} bytes")]
    TooLarge,
    #[error("the response's head is not HTTP: {0}")]
    Malformed(httparse::Error),
    #[error("the response's {0} header is invalid")]
    Header(&'static str),
}

/// Takes a head off the input. `None`: it is not complete. Interim responses are passed over.
pub(super) fn take_head(input: &mut BytesMut, to_head: bool) -> Result<Option<ResponseHead>, BadHead> {
    loop {
        let Some(end) = memchr::memmem::find(input, b"\r\n\r\n") else {
            return if input.len() > MAX_HEAD { Err(BadHead::TooLarge) } else { Ok(None) };
        };
        if end > MAX_HEAD {
            return Err(BadHead::TooLarge);
        }
        let head = parse(&input.split_to(end + 4).freeze(), to_head)?;
        if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Some(head));
        }
    }
}

/// What the headers of this hop say.
#[derive(Default)]
struct Hop {
    close: bool,
    keep_alive: bool,
    /// Named by `connection`, hence not to be passed on.
    named: Vec<HeaderName>,
    encoded: bool,
    chunked: bool,
    length: Option<u64>,
    upgrade: Option<HeaderValue>,
}

fn parse(text: &Bytes, to_head: bool) -> Result<ResponseHead, BadHead> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, text, &mut slots) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(BadHead::Malformed(httparse::Error::NewLine)),
        Err(error) => return Err(BadHead::Malformed(error)),
    }
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(BadHead::Malformed(httparse::Error::Status))?;
    let mut headers = HeaderMap::with_capacity(parsed.headers.len() + ADDED);
    let mut hop = Hop::default();
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| BadHead::Malformed(httparse::Error::HeaderName))?;
        let value = HeaderValue::from_maybe_shared(text.slice_ref(field.value))
            .map_err(|_| BadHead::Malformed(httparse::Error::HeaderValue))?;
        if hop.note(&name, &value)? {
            headers.append(name, value);
        }
    }
    for name in &hop.named {
        headers.remove(name);
    }
    let old = parsed.version == Some(0);
    if hop.encoded || hop.length.is_none() {
        headers.remove(header::CONTENT_LENGTH);
    }
    Ok(ResponseHead {
        framing: hop.framing(status, to_head, old)?,
        keep_alive: !hop.close && (!old || hop.keep_alive),
        status,
        headers,
        upgrade: hop.upgrade,
    })
}

impl Hop {
    /// Reads what concerns this hop; whether the header passes to the next one.
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<bool, BadHead> {
        match name.as_str() {
            "content-length" => {
                let length = decimal(value.as_bytes()).ok_or(BadHead::Header("content-length"))?;
                // One is passed on; another that differs would let two readers disagree.
                return match self.length.replace(length) {
                    None => Ok(true),
                    Some(before) if before == length => Ok(false),
                    Some(_) => Err(BadHead::Header("content-length")),
                };
            }
            "connection" => self.note_connection(value),
            "transfer-encoding" => {
                self.encoded = true;
                let last = value.as_bytes().rsplit(|&b| b == b',').next().unwrap_or_default();
                self.chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
            }
            "upgrade" => self.upgrade = Some(value.clone()),
            _ => {}
        }
        Ok(headers::passes(name.as_str()))
    }

    fn note_connection(&mut self, value: &HeaderValue) {
        for token in value.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if let Some(name) = headers::named_by_connection(token) {
                self.named.push(name);
            }
        }
    }

    /// RFC 9112, 6.3.
    fn framing(&self, status: StatusCode, to_head: bool, old: bool) -> Result<Framing, BadHead> {
        let bodiless = matches!(
            status,
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        Ok(match self.length {
            _ if to_head || bodiless => Framing::Length(0),
            // HTTP/1.0 knows no transfer encodings: whoever sends one may frame the body otherwise than we read it.
            _ if self.encoded && old => return Err(BadHead::Header("transfer-encoding")),
            _ if self.chunked => Framing::chunked(),
            _ if self.encoded => Framing::Close,
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        })
    }
}

/// Digits only: no sign, no space, no list.
fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<ResponseHead>, BadHead> {
        take_head(&mut BytesMut::from(text), false)
    }

    fn head(fields: &str) -> Result<ResponseHead, BadHead> {
        read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).map(Option::unwrap)
    }

    #[test]
    fn a_head_is_taken_when_it_is_whole_and_what_follows_stays() {
        let whole = "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nX-A: 1\r\nx-a: 2\r\n\r\nabc";
        let end = whole.len() - 3;
        for cut in 0..end {
            assert!(read(&whole[..cut]).unwrap().is_none(), "{cut}");
        }
        let mut input = BytesMut::from(whole);
        let head = take_head(&mut input, false).unwrap().unwrap();
        assert_eq!((head.status, &input[..], head.keep_alive), (StatusCode::NOT_FOUND, &b"abc"[..], true));
        assert_eq!(head.headers.get_all("x-a").iter().count(), 2);
        assert_eq!(head.headers["content-length"], "3");
        assert_eq!(head.framing, Framing::Length(3));
    }

    #[test]
    fn interim_responses_are_passed_over_and_101_is_not() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        let head = read(text).unwrap().unwrap();
        assert_eq!((head.status.as_u16(), head.headers.len()), (204, 0));
        let head =
            read("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
        let head = head.unwrap().unwrap();
        assert_eq!(
            (head.status.as_u16(), head.upgrade.unwrap()),
            (101, HeaderValue::from_static("websocket"))
        );
    }

    #[test]
    fn the_body_is_framed_as_the_rfc_says() {
        let framing = |fields| head(fields).unwrap().framing;
        assert_eq!(framing("content-length: 5\r\n"), Framing::Length(5));
        assert_eq!(framing("content-length: 5\r\ncontent-length: 5\r\n"), Framing::Length(5));
        assert_eq!(framing("transfer-encoding: gzip, chunked\r\n"), Framing::chunked());
        assert_eq!(framing("transfer-encoding: gzip\r\n"), Framing::Close);
        assert_eq!(framing(""), Framing::Close);
        let both = head("content-length: 5\r\ntransfer-encoding: chunked\r\n").unwrap();
        assert_eq!(both.framing, Framing::chunked());
        assert!(both.headers.is_empty(), "a length beside an encoding misleads the next hop");
        for text in ["HTTP/1.1 204 No\r\n", "HTTP/1.1 304 Not\r\n"] {
            let head = read(&format!("{text}content-length: 5\r\n\r\n")).unwrap().unwrap();
            assert_eq!(head.framing, Framing::Length(0));
            assert_eq!(head.headers["content-length"], "5");
        }
        let to_head = take_head(&mut BytesMut::from("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"), true);
        assert_eq!(to_head.unwrap().unwrap().framing, Framing::Length(0));
    }

    #[test]
    fn lengths_that_two_readers_could_read_differently_are_refused() {
        for bad in ["+5", "5, 5", "0x5", "5 5", "", "99999999999999999999"] {
            let got = head(&format!("content-length: {bad}\r\n"));
            assert_eq!(got.unwrap_err(), BadHead::Header("content-length"), "{bad}");
        }
        let twice = head("content-length: 5\r\ncontent-length: 6\r\n");
        assert_eq!(twice.unwrap_err(), BadHead::Header("content-length"));
        let old = read("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(old.unwrap_err(), BadHead::Header("transfer-encoding"));
    }

    #[test]
    fn what_belongs_to_the_connection_does_not_pass() {
        let head = head(
            "connection: close, X-Hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nx-hybrid-identity: forged\r\nx-b: 2\r\n",
        )
        .unwrap();
        assert_eq!(head.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-b"]);
        assert!(!head.keep_alive);
    }

    #[test]
    fn connections_of_http_1_0_end_unless_they_say_otherwise() {
        let keep_alive = |text: &str| read(text).unwrap().unwrap().keep_alive;
        assert!(!keep_alive("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert!(keep_alive("HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\n\r\n"));
    }

    #[test]
    fn what_is_not_http_is_refused() {
        for bad in [
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: 1\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\na : 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
        ] {
            assert!(matches!(read(bad), Err(BadHead::Malformed(_))), "{bad}");
        }
        let long = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(MAX_HEAD));
        assert_eq!(read(&long).unwrap_err(), BadHead::TooLarge);
        let many = "a: 1\r\n".repeat(MAX_HEADERS + 1);
        assert!(head(&many).is_err());
    }
}
