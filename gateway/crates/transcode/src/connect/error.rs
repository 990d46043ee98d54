//! An error as Connect writes it, from a gRPC status with its details.

use crate::status::{self, Code, Details};
use http::HeaderMap;
use percent_encoding::percent_decode;
use serde::Serialize;

/// An error with its details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Never [`Code::Ok`].
    pub code: Code,
    /// For people; may be empty.
    pub message: String,
    /// For programs.
    pub details: Vec<Detail>,
}

/// One message of the details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// The message's full name, for example `google.rpc.BadRequest`.
    pub name: String,
    /// The message.
    pub value: Vec<u8>,
}

#[derive(Serialize)]
pub(super) struct Json<'a> {
    code: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<JsonDetail<'a>>,
}

#[derive(Serialize)]
struct JsonDetail<'a> {
    #[serde(rename = "type")]
    name: &'a str,
    value: String,
}

impl Error {
    /// An error that names wrong fields, and when trying again may help.
    pub fn new(code: Code, message: impl Into<String>, details: &Details) -> Self {
        let message = message.into();
        Self { code, details: unpack(&details.to_status(code, &message)), message }
    }

    /// How a gRPC call ended, by its trailers; none where they do not say.
    pub fn from_trailers(trailers: &HeaderMap) -> Option<Result<(), Self>> {
        let number = trailers.get("grpc-status")?.to_str().ok().and_then(|text| text.parse().ok());
        let code = number.map_or(Code::Unknown, Code::from_number);
        if code == Code::Ok {
            return Some(Ok(()));
        }
        let message = trailers.get("grpc-message").map_or(&b""[..], |value| value.as_bytes());
        let message = percent_decode(message).decode_utf8_lossy().into_owned();
        let details = trailers.get("grpc-status-details-bin").map_or(&b""[..], |value| value.as_bytes());
        Some(Err(Self { code, message, details: unpack(&status::decode_binary(details)) }))
    }

    /// The body of a unary answer.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.json()).unwrap_or_default()
    }

    pub(super) fn json(&self) -> Json<'_> {
        let json = |detail: &'_ Detail| status::encode_binary(&detail.value);
        let details = self.details.iter().map(|it| JsonDetail { name: &it.name, value: json(it) }).collect();
        Json { code: super::code_name(self.code), message: &self.message, details }
    }
}

/// The details of an encoded `google.rpc.Status`; none where it cannot be read.
fn unpack(status: &[u8]) -> Vec<Detail> {
    status::details(status).into_iter().map(|(name, value)| Detail { name, value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Violation;
    use http::HeaderValue;
    use serde_json::{Value, json};

    fn ended(pairs: &[(&'static str, &str)]) -> Option<Result<(), Error>> {
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        let trailers = pairs.iter().map(|(name, text)| (http::HeaderName::from_static(name), value(text)));
        Error::from_trailers(&trailers.collect())
    }

    #[test]
    fn a_status_with_details_becomes_json() {
        let violations = vec![Violation { field: "texts[0]".into(), description: "is empty".into() }];
        let details = Details { violations, ..Details::default() };
        let trailer = details.to_trailer(Code::InvalidArgument, "né");
        let error = ended(&[
            ("grpc-status", "3"),
            ("grpc-message", "n%C3%A9"),
            ("grpc-status-details-bin", trailer.as_str()),
        ]);
        let error = error.unwrap().unwrap_err();
        assert_eq!(error, Error::new(Code::InvalidArgument, "né", &details));
        let json: Value = serde_json::from_slice(&error.to_json()).unwrap();
        assert_eq!(
            json,
            json!({"code": "invalid_argument", "message": "né", "details": [
                {"type": "google.rpc.BadRequest", "value": "ChQKCHRleHRzWzBdEghpcyBlbXB0eQ"}]})
        );
    }

    #[test]
    fn what_trailers_do_not_say_is_left_out() {
        assert_eq!(ended(&[]), None);
        assert_eq!(ended(&[("grpc-status", "0")]), Some(Ok(())));
        for odd in ["99", "x", ""] {
            let error = ended(&[("grpc-status", odd), ("grpc-status-details-bin", "!!")]);
            assert_eq!(error.unwrap().unwrap_err().to_json(), br#"{"code":"unknown"}"#, "{odd}");
        }
    }
}
