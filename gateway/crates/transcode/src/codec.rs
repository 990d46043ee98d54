//! A message type, both ways.

use std::sync::Arc;

use crate::{
    TranscodeError, Unknown, from_json,
    plan::{MessageId, MessagePlan, Plans},
    to_json,
    violations::Violations,
};

/// Translates one message type between its wire bytes and proto3 JSON. Cheap to clone.
///
/// ```
/// # let files = std::collections::BTreeMap::from([("t.proto", r#"
/// #   syntax = "proto3"; package t; message Point { double x = 1; int64 id = 2; }"#)]);
/// # let contract = transcode::Contract::from_sources(&files)?;
/// let point = contract.message("t.Point").unwrap();
/// let bytes = point.from_json(br#"{"x": 1.5, "id": "7"}"#, transcode::Unknown::Refused)?;
/// let mut json = vec![];
/// point.to_json(&bytes, &mut json)?;
/// assert_eq!(json, br#"{"x":1.5,"id":"7"}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Codec {
    plans: Arc<Plans>,
    message: MessageId,
}

impl Codec {
    pub(crate) fn new(plans: &Arc<Plans>, full_name: &str) -> Option<Self> {
        Some(Self { message: plans.by_name(full_name)?, plans: Arc::clone(plans) })
    }

    /// Appends a message as JSON. On failure `out` is as it was.
    pub fn to_json(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        self.append(None, message, out)
    }

    /// Reads a JSON document as a message. All violations are reported, up to a bound.
    pub fn from_json(&self, json: &[u8], unknown: Unknown) -> Result<Vec<u8>, TranscodeError> {
        let mut message = Vec::with_capacity(json.len());
        let violations = Violations::default();
        from_json::message(&self.plans, self.message, json, unknown, &violations, &mut message)?;
        violations.into_result(message)
    }

    /// A message, or the field at this place alone.
    pub(crate) fn append(
        &self,
        field: Option<usize>,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TranscodeError> {
        let field = field.map(|place| &self.plan().fields[place]);
        // Most JSON is between once and twice as long as the message, and its names.
        out.reserve(message.len() * 2 + 128);
        to_json::append(&self.plans, self.message, field, message, out).map_err(|description| {
            TranscodeError::Response { message: self.plan().descriptor.full_name().to_owned(), description }
        })
    }

    pub(crate) fn plan(&self) -> &MessagePlan {
        &self.plans[self.message]
    }

    pub(crate) fn plans(&self) -> &Plans {
        &self.plans
    }

    pub(crate) fn id(&self) -> MessageId {
        self.message
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use crate::{Matched, Routed, TranscodeError, testing::notes};

    fn matched(method: &Method, path: &str) -> Matched {
        let Routed::Matched(matched) = notes().route(method, path) else { panic!("{method} {path}") };
        matched
    }

    fn round_trip(method: &Method, path: &str, body: &str) -> String {
        let matched = matched(method, path);
        let bytes = matched.encode_request(None, body.as_bytes()).unwrap();
        String::from_utf8(matched.decode_response(&bytes).unwrap()).unwrap()
    }

    #[test]
    fn defaults_are_left_out_and_large_integers_are_strings() {
        let json = round_trip(
            &Method::POST,
            "/v1/notes",
            r#"{"id":"","limit":0,"big":9007199254740993,"raw":"AQI","max_items":1,"kinds":["KIND_FINAL"],"text":""}"#,
        );
        assert_eq!(
            json,
            r#"{"big":"9007199254740993","raw":"AQI=","maxItems":1,"kinds":["KIND_FINAL"],"text":""}"#
        );
    }

    #[test]
    fn floats_survive_exactly() {
        let body = r#"{"filter":{"minScore":0.1,"maxScore":123456789.12345679}}"#;
        assert_eq!(round_trip(&Method::POST, "/v1/notes", body), body);
    }

    #[test]
    fn response_body_is_the_field_alone_default_or_not() {
        let put = |path: &str, body: &str| round_trip(&Method::PUT, path, body);
        assert_eq!(put("/v1/notes/1/filter", r#"{"tags":["a"]}"#), r#"{"tags":["a"]}"#);
        assert_eq!(put("/v1/notes/1/filter", ""), "null");
        assert_eq!(put("/v1/notes/1/tags", r#"["a","b"]"#), r#"["a","b"]"#);
        assert_eq!(put("/v1/notes/1/tags", ""), "[]");
        assert_eq!(put("/v1/notes/1/limit", "7"), "7");
        assert_eq!(put("/v1/notes/1/limit", "0"), "0");
    }

    #[test]
    fn bytes_that_are_no_message_are_the_upstreams_fault() {
        let error = matched(&Method::POST, "/v1/notes").decode_response(b"\x0a\xff").unwrap_err();
        assert!(matches!(&error, TranscodeError::Response { message, .. } if message == "t.Note"), "{error}");
        assert!(!error.is_client_fault());
    }
}
