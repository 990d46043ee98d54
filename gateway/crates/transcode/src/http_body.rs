//! `google.api.HttpBody`: content of any type that goes between HTTP body and message as it is.

use bytes::Bytes;
use prost_reflect::MessageDescriptor;

use crate::{
    TranscodeError,
    binding::{Binding, Body},
    plan::{Tag, wire_type::DELIMITED},
    wire::{Malformed, Reader, put_delimited},
};

pub(crate) const NAME: &str = "google.api.HttpBody";
const CONTENT_TYPE: u32 = 1;
const DATA: u32 = 2;

/// Raw content with its media type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpBody {
    /// The media type, as in `Content-Type`. Empty: none is stated.
    pub content_type: String,
    /// The bytes.
    pub data: Bytes,
}

impl HttpBody {
    /// Reads an encoded message; none where it cannot be read.
    pub(crate) fn decode(message: &Bytes) -> Option<Self> {
        let mut content = Self::default();
        read(message, &mut content).ok().map(|()| content)
    }

    /// The message, encoded.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.content_type.len() + self.data.len() + 16);
        for (number, bytes) in [(CONTENT_TYPE, self.content_type.as_bytes()), (DATA, &self.data[..])] {
            if !bytes.is_empty() {
                put(number, bytes, &mut body);
            }
        }
        body
    }
}

pub(crate) fn is(message: &MessageDescriptor) -> bool {
    message.full_name() == NAME
}

/// Appends the content, as the message or as its body field. Protobuf merges what is appended.
pub(crate) fn append(binding: &Binding, content: &HttpBody, out: &mut Vec<u8>) {
    let mut body = content.encode();
    match &binding.body {
        Body::Field(field) => put(field.number(), &body, out),
        _ => out.append(&mut body),
    }
}

fn put(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_delimited(&Tag::new(number, DELIMITED), bytes, out);
}

/// Takes the content out of a response.
pub(crate) fn take(binding: &Binding, message: &Bytes) -> Result<HttpBody, TranscodeError> {
    let mut content = HttpBody::default();
    let read = match &binding.response_body {
        None => read(message, &mut content),
        Some(field) => {
            fields(
                message,
                |number, value| {
                    if number == field.number() { read(&value, &mut content) } else { Ok(()) }
                },
            )
        }
    };
    read.map(|()| content).map_err(|Malformed(description)| TranscodeError::Response {
        message: binding.output.full_name().to_owned(),
        description: description.to_owned(),
    })
}

fn read(message: &Bytes, content: &mut HttpBody) -> Result<(), Malformed> {
    fields(message, |number, value| {
        match number {
            CONTENT_TYPE => {
                let text = std::str::from_utf8(&value).map_err(|_| Malformed("content_type is not UTF-8"))?;
                text.clone_into(&mut content.content_type);
            }
            DATA => content.data = value,
            _ => {}
        }
        Ok(())
    })
}

/// Calls for each length-delimited field; the others are passed over.
fn fields(
    message: &Bytes,
    mut each: impl FnMut(u32, Bytes) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(message);
    while !reader.is_empty() {
        let tag = reader.tag()?;
        if tag & 7 == DELIMITED {
            let value = reader.delimited()?;
            each(tag >> 3, message.slice_ref(value))?;
        } else {
            reader.skip(tag, 0)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::HttpBody;
    use crate::{Contract, Matched, Routed};

    const SOURCE: &str = r#"
        syntax = "proto3"; package t;
        import "google/api/annotations.proto"; import "google/api/httpbody.proto";
        service S {
          rpc Upload(Up) returns (google.api.HttpBody) {
            option (google.api.http) = {post: "/up/{name}" body: "content"}; }
          rpc Echo(google.api.HttpBody) returns (Up) {
            option (google.api.http) = {post: "/echo" body: "*" response_body: "content"}; }
          rpc Plain(Up) returns (Up) { option (google.api.http) = {post: "/plain" body: "*"}; }
        }
        message Up { string name = 1; google.api.HttpBody content = 2; int32 size = 3; }
    "#;

    fn matched(path: &str) -> Matched {
        let contract = Contract::from_sources(&BTreeMap::from([("t.proto", SOURCE)])).unwrap();
        let Routed::Matched(matched) = contract.route(&http::Method::POST, path) else { panic!("{path}") };
        matched
    }

    fn png() -> HttpBody {
        HttpBody { content_type: "image/png".to_owned(), data: Bytes::from_static(b"\x89\0\xff") }
    }

    #[test]
    fn content_goes_in_as_a_field_or_as_the_message() {
        let upload = matched("/up/a");
        assert!(upload.takes_http_body() && upload.answers_http_body());
        let message = upload.encode_http_body(Some("size=3"), &png()).unwrap();
        assert_eq!(message, b"\x18\x03\x0a\x01a\x12\x10\x0a\x09image/png\x12\x03\x89\0\xff");
        let next = HttpBody { data: Bytes::from_static(b"x"), ..HttpBody::default() };
        assert_eq!(upload.encode_next_http_body(&next), b"\x12\x03\x12\x01x");
        let echo = matched("/echo");
        assert_eq!(echo.encode_http_body(None, &png()).unwrap(), b"\x0a\x09image/png\x12\x03\x89\0\xff");
        assert!(!matched("/plain").takes_http_body() && !matched("/plain").answers_http_body());
    }

    #[test]
    fn content_comes_out_of_a_field_or_the_message() {
        let whole = Bytes::from_static(b"\x0a\x09image/png\x12\x03\x89\0\xff");
        assert_eq!(matched("/up/a").decode_http_body(&whole).unwrap(), png());
        let field = Bytes::from_static(b"\x18\x03\x12\x10\x0a\x09image/png\x12\x03\x89\0\xff");
        assert_eq!(matched("/echo").decode_http_body(&field).unwrap(), png());
        let error = matched("/echo").decode_http_body(&Bytes::from_static(b"\x12\x10x")).unwrap_err();
        assert_eq!(error.to_string(), "the response is not a t.Up: a field is cut off");
    }
}
