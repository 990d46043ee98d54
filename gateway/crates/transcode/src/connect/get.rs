//! A unary request by `GET`: the message is in the query, so that answers can be cached.

use super::Codec;
use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode;
use std::borrow::Cow;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The request in a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// How the message is written.
    pub codec: Codec,
    /// How it is compressed; empty: not at all.
    pub compression: String,
    /// The message, still compressed.
    pub message: Vec<u8>,
}

impl Get {
    /// Whether a query means such a request at all: it names a message and its encoding.
    pub fn is_meant(query: Option<&str>) -> bool {
        let names = |name| query.is_some_and(|query| pairs(query).any(|(found, _)| found == name));
        names("message") && names("encoding")
    }

    /// Reads the query; what is wrong with it is said for people. Parameters of other meaning do not matter.
    pub fn parse(query: &str) -> Result<Self, String> {
        let encoding = only(query, "encoding")?.ok_or("the query has no encoding")?;
        let codec = Codec::from_name(&encoding).ok_or_else(|| {
            format!("encoding: expected proto or json, found {:?}", String::from_utf8_lossy(&encoding))
        })?;
        match only(query, "connect")?.as_deref() {
            None | Some(b"v1") => {}
            Some(_) => return Err("connect: expected v1".into()),
        }
        let message = only(query, "message")?.ok_or("the query has no message")?;
        let message = match only(query, "base64")?.as_deref() {
            None | Some(b"" | b"0") => message,
            Some(b"1") => BASE64.decode(&message).map_err(|_| "message: is not URL-safe base64")?,
            Some(_) => return Err("base64: expected 1".into()),
        };
        let compression = only(query, "compression")?.unwrap_or_default();
        Ok(Self { codec, compression: String::from_utf8_lossy(&compression).into_owned(), message })
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The value of a parameter, which may be there once.
fn only(query: &str, name: &str) -> Result<Option<Vec<u8>>, String> {
    let mut values = pairs(query).filter(|(found, _)| *found == name).map(|(_, value)| value);
    let value = values.next();
    if values.next().is_some() {
        return Err(format!("{name}: is given more than once"));
    }
    Ok(value.map(|value| {
        let spaced = if value.contains('+') { Cow::from(value.replace('+', " ")) } else { value.into() };
        percent_decode(spaced.as_bytes()).collect()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_as_text_or_as_base64() {
        let get = |codec, compression: &str, message: &[u8]| {
            Ok(Get { codec, compression: compression.into(), message: message.into() })
        };
        for (query, expected) in [
            (
                "connect=v1&encoding=json&message=%7B%22a%22%3A+%22b%2B%22%7D",
                get(Codec::Json, "", br#"{"a": "b+"}"#),
            ),
            ("message=_-8&encoding=proto&base64=1", get(Codec::Proto, "", b"\xff\xef")),
            ("message=_-8%3D&encoding=proto&base64=1&x=y", get(Codec::Proto, "", b"\xff\xef")),
            ("message=&encoding=proto&compression=gzip", get(Codec::Proto, "gzip", b"")),
        ] {
            assert!(Get::is_meant(Some(query)));
            assert_eq!(Get::parse(query), expected, "{query}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, expected) in [
            ("message=x", "the query has no encoding"),
            ("encoding=json", "the query has no message"),
            ("encoding=xml&message=x", "encoding: expected proto or json, found \"xml\""),
            ("encoding=json&message=x&connect=v2", "connect: expected v1"),
            ("encoding=json&message=x&base64=yes", "base64: expected 1"),
            ("encoding=json&message=%2F%2F&base64=1", "message: is not URL-safe base64"),
            ("encoding=json&message=x&message=y", "message: is given more than once"),
        ] {
            assert_eq!(Get::parse(query), Err(expected.to_owned()), "{query}");
        }
        assert!(
            !Get::is_meant(None)
                && !Get::is_meant(Some("message=x"))
                && !Get::is_meant(Some("encoding=json"))
        );
    }
}
