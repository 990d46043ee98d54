//! Content codings (RFC 9110, section 8.4): gzip, both ways. Event streams and other streams are never compressed: what is
//! small and has to arrive at once gains nothing.

use super::problems;
use crate::edge::{Code, Problem};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use transcode::gzip::{self, GzipError};

pub(super) const GZIP: HeaderValue = HeaderValue::from_static("gzip");
/// Smaller messages do not get smaller by enough.
pub(super) const WORTH_COMPRESSING: usize = 1024;

/// Whether the client reads gzip, by what it accepts.
pub(super) fn accepts_gzip(headers: &HeaderMap, name: &HeaderName) -> bool {
    let values = headers.get_all(name).iter();
    let mut items = values.flat_map(|value| value.as_bytes().split(|&b| b == b','));
    items.any(|item| {
        let mut parts = item.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"gzip"))
            && !parts.any(|part| matches!(part, b"q=0" | b"q=0.0" | b"q=0.00" | b"q=0.000"))
    })
}

/// What a compressed message is; one that is larger than the limit is refused before it is whole.
pub(super) fn decompress(message: &[u8], limit: u64) -> Result<Bytes, Problem> {
    gzip::decompress(message, limit).map(Bytes::from).map_err(|error| {
        let code = match error {
            GzipError::TooLarge(_) => Code::BodyTooLarge,
            GzipError::Invalid => Code::InvalidArgument,
        };
        Problem::new(code, problems::capitalised(&error.to_string()))
    })
}

/// A request's body as its `content-encoding` says.
pub(super) fn decoded(headers: &HeaderMap, body: Bytes, limit: u64) -> Result<Bytes, Problem> {
    match headers.get(header::CONTENT_ENCODING).map_or(&b""[..], HeaderValue::as_bytes) {
        b"" | b"identity" => Ok(body),
        b"gzip" | b"x-gzip" => decompress(&body, limit),
        other => {
            let other = String::from_utf8_lossy(other);
            let detail = format!("Unknown content-encoding {other:?}: supported are gzip and identity.");
            Err(Problem::new(Code::UnsupportedMediaType, detail))
        }
    }
}

/// A document, compressed where the client accepts that and it is worth the while, with the headers that say so.
pub(super) fn encoded(request: &HeaderMap, document: Vec<u8>, response: &mut HeaderMap) -> Vec<u8> {
    if document.len() < WORTH_COMPRESSING {
        return document;
    }
    response.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if !accepts_gzip(request, &header::ACCEPT_ENCODING) {
        return document;
    }
    response.insert(header::CONTENT_ENCODING, GZIP);
    gzip::compress(&document)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn large_documents_are_compressed_for_those_who_accept_it() {
        let document = b"hybrid ".repeat(1000);
        for (accept, compressed) in
            [("gzip", true), ("br, GZIP;q=0.5", true), ("gzip;q=0", false), ("br", false), ("", false)]
        {
            let mut response = HeaderMap::new();
            let request = headers(header::ACCEPT_ENCODING, accept);
            let sent = encoded(&request, document.clone(), &mut response);
            assert_eq!(response.contains_key(header::CONTENT_ENCODING), compressed, "{accept}");
            assert_eq!(response[header::VARY], "accept-encoding");
            let read = if compressed { gzip::decompress(&sent, 7000).unwrap() } else { sent };
            assert_eq!(read, document);
        }
        let mut response = HeaderMap::new();
        let request = headers(header::ACCEPT_ENCODING, "gzip");
        assert_eq!(encoded(&request, b"small".to_vec(), &mut response), b"small");
        assert!(response.is_empty());
    }

    #[test]
    fn request_bodies_are_decompressed_within_the_limit() {
        let body = Bytes::from(gzip::compress(&b"hybrid ".repeat(1000)));
        let gzipped = headers(header::CONTENT_ENCODING, "gzip");
        assert_eq!(decoded(&gzipped, body.clone(), 7000).unwrap().len(), 7000);
        assert_eq!(decoded(&gzipped, body.clone(), 6999).unwrap_err().code(), Code::BodyTooLarge);
        assert_eq!(
            decoded(&gzipped, Bytes::from_static(b"{}"), 10).unwrap_err().code(),
            Code::InvalidArgument
        );
        let unknown = headers(header::CONTENT_ENCODING, "zstd");
        assert_eq!(decoded(&unknown, body, 7000).unwrap_err().code(), Code::UnsupportedMediaType);
    }
}
