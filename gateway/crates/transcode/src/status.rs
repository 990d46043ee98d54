//! gRPC status codes, their HTTP equivalents, and the rich details of `google.rpc.Status`.
//! The messages are declared by hand: three small ones do not need generated code.

use std::time::Duration;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost::Message;

use crate::{HttpBody, Violation, http_body};

/// gRPC sends binary metadata without padding but must accept it.
const BINARY_METADATA: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

macro_rules! codes {
    ($($number:literal $variant:ident $name:literal $http:literal $doc:literal,)*) => {
        /// A gRPC status code (`google.rpc.Code`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $doc] $variant = $number,)* }

        impl Code {
            /// The code with this number; every unknown number is [`Code::Unknown`], as the gRPC specification says.
            pub fn from_number(number: i32) -> Self {
                match number { $($number => Self::$variant,)* _ => Self::Unknown }
            }

            /// The snake_case name, for example `not_found`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The HTTP status that `google.rpc.Code` documents for it.
            pub fn http_status(self) -> http::StatusCode {
                match self { $(Self::$variant => http::StatusCode::from_u16($http).unwrap_or_default(),)* }
            }
        }
    };
}

codes! {
    0 Ok "ok" 200 "Success.",
    1 Cancelled "cancelled" 499 "The caller gave up.",
    2 Unknown "unknown" 500 "An error without a better code.",
    3 InvalidArgument "invalid_argument" 400 "The request is wrong whatever the state.",
    4 DeadlineExceeded "deadline_exceeded" 504 "The deadline passed.",
    5 NotFound "not_found" 404 "It does not exist.",
    6 AlreadyExists "already_exists" 409 "It exists already.",
    7 PermissionDenied "permission_denied" 403 "The caller may not.",
    8 ResourceExhausted "resource_exhausted" 429 "A quota or limit is used up.",
    9 FailedPrecondition "failed_precondition" 400 "The state does not allow it.",
    10 Aborted "aborted" 409 "A conflict with something concurrent.",
    11 OutOfRange "out_of_range" 400 "Past the valid range.",
    12 Unimplemented "unimplemented" 501 "The method is not implemented.",
    13 Internal "internal" 500 "An invariant broke.",
    14 Unavailable "unavailable" 503 "Not now; retrying may help.",
    15 DataLoss "data_loss" 500 "Data is lost or corrupted.",
    16 Unauthenticated "unauthenticated" 401 "The caller is not known.",
}

impl Code {
    /// The number on the wire.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The gRPC status for an HTTP response that carries none, by the gRPC specification's table.
    pub fn from_http_status(status: http::StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502..=504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

/// What `grpc-status-details-bin` says beyond code and message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// From `google.rpc.BadRequest`.
    pub violations: Vec<Violation>,
    /// From `google.rpc.RetryInfo`.
    pub retry_delay: Option<Duration>,
    /// From `google.rpc.ErrorInfo`, for example `MODEL_LOADING`.
    pub reason: Option<String>,
    /// A `google.api.HttpBody`: what the failure looks like over HTTP, where the upstream's clients expect a form of
    /// their own.
    pub content: Option<HttpBody>,
}

impl Details {
    /// Decodes the value of a `grpc-status-details-bin` trailer. What cannot be read is left out: details only help,
    /// and the status stands without them.
    pub fn from_trailer(value: &[u8]) -> Self {
        Self::from_status(&decode_binary(value))
    }

    /// Decodes an encoded `google.rpc.Status`.
    pub fn from_status(bytes: &[u8]) -> Self {
        let mut details = Self::default();
        for any in Status::decode(bytes).unwrap_or_default().details {
            match any.type_url.rsplit('/').next() {
                Some("google.rpc.BadRequest") => {
                    let bad = BadRequest::decode(any.value.as_slice()).unwrap_or_default();
                    details.violations.extend(bad.field_violations.into_iter().map(Violation::from));
                }
                Some("google.rpc.RetryInfo") => {
                    let info = RetryInfo::decode(any.value.as_slice()).unwrap_or_default();
                    details.retry_delay = info.retry_delay.and_then(DurationMessage::to_std);
                }
                Some("google.rpc.ErrorInfo") => {
                    let info = ErrorInfo::decode(any.value.as_slice()).unwrap_or_default();
                    details.reason = Some(info.reason).filter(|reason| !reason.is_empty());
                }
                Some(http_body::NAME) => details.content = HttpBody::decode(&any.value.into()),
                _ => {}
            }
        }
        details
    }

    /// Encodes code, message and violations for a `grpc-status-details-bin` trailer.
    pub fn to_trailer(&self, code: Code, message: &str) -> String {
        encode_binary(&self.to_status(code, message))
    }

    /// Encodes them as a `google.rpc.Status`.
    pub fn to_status(&self, code: Code, message: &str) -> Vec<u8> {
        let mut details = vec![];
        if !self.violations.is_empty() {
            let field_violations = self.violations.iter().cloned().map(FieldViolation::from).collect();
            details.push(Any::pack("google.rpc.BadRequest", &BadRequest { field_violations }));
        }
        if let Some(delay) = self.retry_delay {
            let retry_delay = Some(DurationMessage {
                seconds: delay.as_secs().try_into().unwrap_or(i64::MAX),
                nanos: delay.subsec_nanos().cast_signed(),
            });
            details.push(Any::pack("google.rpc.RetryInfo", &RetryInfo { retry_delay }));
        }
        if let Some(reason) = &self.reason {
            details.push(Any::pack("google.rpc.ErrorInfo", &ErrorInfo { reason: reason.clone() }));
        }
        if let Some(content) = &self.content {
            let type_url = format!("type.googleapis.com/{}", http_body::NAME);
            details.push(Any { type_url, value: content.encode() });
        }
        Status { code: code.number(), message: message.to_owned(), details }.encode_to_vec()
    }
}

/// A `-bin` header's value.
pub(crate) fn encode_binary(value: &[u8]) -> String {
    BINARY_METADATA.encode(value)
}

/// What a `-bin` header's value says; nothing where it cannot be read.
pub(crate) fn decode_binary(value: &[u8]) -> Vec<u8> {
    BINARY_METADATA.decode(value).unwrap_or_default()
}

/// The details of an encoded `google.rpc.Status`, each with its message's full name. None where it cannot be read.
pub(crate) fn details(status: &[u8]) -> Vec<(String, Vec<u8>)> {
    let details = Status::decode(status).unwrap_or_default().details.into_iter();
    let name = |url: &str| url.rsplit('/').next().unwrap_or_default().to_owned();
    details.map(|any| (name(&any.type_url), any.value)).collect()
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl Any {
    fn pack(name: &str, message: &impl Message) -> Self {
        Self { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
    }
}

#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

impl From<FieldViolation> for Violation {
    fn from(FieldViolation { field, description }: FieldViolation) -> Self {
        Self { field, description }
    }
}

impl From<Violation> for FieldViolation {
    fn from(Violation { field, description }: Violation) -> Self {
        Self { field, description }
    }
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<DurationMessage>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct DurationMessage {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl DurationMessage {
    fn to_std(self) -> Option<Duration> {
        let nanos = u32::try_from(self.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
        Some(Duration::new(u64::try_from(self.seconds).ok()?, nanos))
    }
}

#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_map_to_http_and_unknown_numbers_are_unknown() {
        for (number, http) in [(0, 200), (3, 400), (5, 404), (7, 403), (8, 429), (14, 503), (16, 401)] {
            assert_eq!(Code::from_number(number).http_status().as_u16(), http);
            assert_eq!(Code::from_number(number).number(), number);
        }
        assert_eq!(Code::from_number(1).http_status().as_u16(), 499);
        assert_eq!(Code::from_number(99), Code::Unknown);
        assert_eq!(Code::from_http_status(http::StatusCode::BAD_GATEWAY), Code::Unavailable);
    }

    #[test]
    fn details_survive_a_round_trip_with_and_without_padding() {
        let details = Details {
            violations: vec![Violation { field: "texts[0]".into(), description: "is empty".into() }],
            retry_delay: Some(Duration::from_millis(1500)),
            reason: Some("MODEL_LOADING".into()),
            content: Some(HttpBody { content_type: "text/plain".into(), data: "later".into() }),
        };
        let trailer = details.to_trailer(Code::Unavailable, "loading");
        assert_eq!(Details::from_trailer(trailer.as_bytes()), details);
        let padded = format!("{trailer}{}", "=".repeat((4 - trailer.len() % 4) % 4));
        assert_eq!(Details::from_trailer(padded.as_bytes()), details);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(Details::from_trailer(b"!!"), Details::default());
        let negative = RetryInfo { retry_delay: Some(DurationMessage { seconds: -1, nanos: 0 }) };
        let status = Status {
            details: vec![
                Any { type_url: "type.googleapis.com/other.Message".into(), value: vec![1, 2] },
                Any::pack("google.rpc.RetryInfo", &negative),
            ],
            ..Status::default()
        };
        assert_eq!(Details::from_status(&status.encode_to_vec()), Details::default());
    }
}
