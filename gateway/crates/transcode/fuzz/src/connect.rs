//! Connect's own forms: unary requests in a query, and how a call ended.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use transcode::connect::{self, Codec, Error, Get};

use super::framing::headers;

/// A query that is read means the same when it is written anew; a timeout is a number of milliseconds.
pub fn connect_get(data: &[u8]) {
    let timeout = connect::timeout(data);
    let digits = (1..=10).contains(&data.len()) && data.iter().all(u8::is_ascii_digit);
    let number = digits.then(|| std::str::from_utf8(data).unwrap().parse().unwrap());
    assert_eq!(timeout, number.map(Duration::from_millis));
    let Ok(query) = std::str::from_utf8(data) else { return };
    let Ok(get) = Get::parse(query) else { return };
    assert!(Get::is_meant(Some(query)));
    let codec = if get.codec == Codec::Json { "json" } else { "proto" };
    let message = URL_SAFE_NO_PAD.encode(&get.message);
    let compression = utf8_percent_encode(&get.compression, NON_ALPHANUMERIC);
    let written = format!("connect=v1&encoding={codec}&message={message}&base64=1&compression={compression}");
    assert_eq!(Get::parse(&written), Ok(get));
}

/// Whatever an upstream's trailers say, an error is JSON, and has a code that is no success.
pub fn trailers(data: &[u8]) {
    let trailers = headers(data);
    let Some(ended) = Error::from_trailers(&trailers) else {
        return assert!(!trailers.contains_key("grpc-status"));
    };
    let end: Value =
        serde_json::from_slice(&connect::end_of_stream(ended.as_ref().err(), &trailers)).unwrap();
    let names = end["metadata"].as_object().map_or(0, serde_json::Map::len);
    assert_eq!(names, trailers.keys_len());
    let Err(error) = ended else { return assert!(end.get("error").is_none()) };
    let json: Value = serde_json::from_slice(&error.to_json()).unwrap();
    assert_eq!(end["error"], json);
    let code = json["code"].as_str().unwrap();
    assert!(!code.is_empty() && code != "ok");
    assert_eq!(json["message"].as_str().unwrap_or_default(), error.message);
    assert_eq!(json["details"].as_array().map_or(0, Vec::len), error.details.len());
}
