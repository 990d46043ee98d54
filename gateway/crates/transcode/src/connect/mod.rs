//! The Connect protocol's own forms (<https://connectrpc.com/docs/protocol>): codecs, timeouts, errors as JSON, the
//! message that ends a stream, and unary requests by `GET`. Its streams are framed by [`crate::envelope`].

mod error;
mod get;

pub use error::{Detail, Error};
pub use get::Get;

use crate::status::Code;
use http::HeaderMap;
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// The flag of the message that ends a stream.
pub const END_STREAM: u8 = 2;
/// The longest timeout's digits.
const MAX_DIGITS: usize = 10;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Protobuf.
    Proto,
    /// Protobuf's JSON mapping.
    Json,
}

impl Codec {
    /// By its name in content types and queries.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"proto" => Some(Self::Proto),
            b"json" => Some(Self::Json),
            _ => None,
        }
    }

    /// The content type of a unary message.
    pub fn unary_type(self) -> &'static str {
        match self {
            Self::Proto => "application/proto",
            Self::Json => "application/json",
        }
    }

    /// The content type of a stream.
    pub fn stream_type(self) -> &'static str {
        match self {
            Self::Proto => "application/connect+proto",
            Self::Json => "application/connect+json",
        }
    }
}

/// The codec of a content type, and whether it is a stream's. Parameters (`charset`) do not matter.
pub fn content_type(value: &[u8]) -> Option<(Codec, bool)> {
    let essence = value.split(|&b| b == b';').next()?.trim_ascii().to_ascii_lowercase();
    let name = essence.strip_prefix(b"application/")?;
    match name.strip_prefix(b"connect+") {
        Some(name) => Some((Codec::from_name(name)?, true)),
        None => Some((Codec::from_name(name)?, false)),
    }
}

/// `connect-timeout-ms`: one to ten digits.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    if !(1..=MAX_DIGITS).contains(&value.len()) {
        return None;
    }
    let digit = |b: u8| b.is_ascii_digit().then(|| u64::from(b - b'0'));
    let millis = value.iter().try_fold(0, |number, &b| Some(number * 10 + digit(b)?))?;
    Some(Duration::from_millis(millis))
}

/// The code's name, which differs from [`Code::name`] in one letter.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Cancelled => "canceled",
        code => code.name(),
    }
}

#[derive(Serialize)]
struct End<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<error::Json<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'a str, Vec<String>>,
}

/// The JSON of the message that ends a stream: how it ended, and its trailing metadata.
pub fn end_of_stream(error: Option<&Error>, metadata: &HeaderMap) -> Vec<u8> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in metadata {
        all.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let end = End { error: error.map(Error::json), metadata: all };
    serde_json::to_vec(&end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn content_types_name_codec_and_form() {
        for (text, expected) in [
            ("application/json", Some((Codec::Json, false))),
            ("Application/JSON; charset=utf-8", Some((Codec::Json, false))),
            ("application/proto", Some((Codec::Proto, false))),
            ("application/connect+json", Some((Codec::Json, true))),
            ("application/connect+proto", Some((Codec::Proto, true))),
            ("application/connect+thrift", None),
            ("application/grpc", None),
            ("text/json", None),
            ("", None),
        ] {
            assert_eq!(content_type(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn timeouts_have_one_to_ten_digits() {
        assert_eq!(timeout(b"0"), Some(Duration::ZERO));
        assert_eq!(timeout(b"0000000250"), Some(Duration::from_millis(250)));
        assert_eq!(timeout(b"9999999999"), Some(Duration::from_millis(9_999_999_999)));
        for bad in ["", "00000000001", "-1", "+1", "1.5", "1s", " 1", "0x1"] {
            assert_eq!(timeout(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn streams_end_with_error_and_metadata_where_there_are_any() {
        assert_eq!(end_of_stream(None, &HeaderMap::new()), b"{}");
        let mut metadata = HeaderMap::new();
        metadata.append("x-a", HeaderValue::from_static("1"));
        metadata.append("x-a", HeaderValue::from_static("2"));
        metadata.append("x-b-bin", HeaderValue::from_static("AQI"));
        let error = Error { code: Code::Cancelled, message: "gone".into(), details: vec![] };
        let json: serde_json::Value =
            serde_json::from_slice(&end_of_stream(Some(&error), &metadata)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"error": {"code": "canceled", "message": "gone"},
                "metadata": {"x-a": ["1", "2"], "x-b-bin": ["AQI"]}})
        );
    }
}
