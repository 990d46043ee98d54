//! The bytes of a response message to JSON.

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, SerializeOptions};
use serde_json::Serializer;

use crate::TranscodeError;

/// Appends the message, or the one field that `response_body` names. On failure `out` is as it was.
pub(crate) fn append(
    output: &MessageDescriptor,
    response_body: Option<&FieldDescriptor>,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), TranscodeError> {
    let invalid = |description: String| TranscodeError::Response {
        message: output.full_name().to_owned(),
        description,
    };
    let message =
        DynamicMessage::decode(output.clone(), bytes).map_err(|error| invalid(error.to_string()))?;
    let json = match response_body {
        None => write(&message, &SerializeOptions::new(), bytes.len()),
        Some(field) => write_field(message, field, bytes.len()),
    };
    out.extend_from_slice(&json.map_err(|error| invalid(error.to_string()))?);
    Ok(())
}

fn write(message: &DynamicMessage, options: &SerializeOptions, hint: usize) -> serde_json::Result<Vec<u8>> {
    let mut json = Vec::with_capacity(hint * 2 + 64);
    message.serialize_with_options(&mut Serializer::new(&mut json), options)?;
    Ok(json)
}

/// prost-reflect writes whole messages only, so the field is written as `{"name":value}` and unwrapped.
fn write_field(
    mut message: DynamicMessage,
    field: &FieldDescriptor,
    hint: usize,
) -> serde_json::Result<Vec<u8>> {
    let mut alone = DynamicMessage::new(prost_reflect::ReflectMessage::descriptor(&message));
    let mut options = SerializeOptions::new();
    match message.take_field(field) {
        Some(value) => alone.set_field(field, value),
        None if field.supports_presence() => return Ok(b"null".to_vec()),
        None => options = options.skip_default_fields(false),
    }
    let json = write(&alone, &options, hint)?;
    let object: std::collections::BTreeMap<String, &serde_json::value::RawValue> =
        serde_json::from_slice(&json)?;
    Ok(object
        .get(field.json_name())
        .map_or_else(|| b"null".to_vec(), |value| value.get().as_bytes().to_vec()))
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
            r#"{"kinds":["KIND_FINAL"],"big":"9007199254740993","raw":"AQI=","maxItems":1,"text":""}"#
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
