//! JSON to the wire and back. The first byte chooses the message type; the rest is the document or the message.

use prost_reflect::DynamicMessage;
use transcode::Unknown;

use super::types::{Both, TYPES, ours, theirs};

fn chosen(data: &[u8]) -> Option<(u8, &'static Both, &[u8])> {
    let (&choice, rest) = data.split_first()?;
    Some((choice, &TYPES[usize::from(choice) % TYPES.len()], rest))
}

/// What we read from JSON is small, is a message, survives the way out and back, and is what prost-reflect reads.
pub fn from_json(data: &[u8]) {
    let Some((choice, Both { codec, descriptor }, json)) = chosen(data) else { return };
    let unknown = if choice < 128 { Unknown::Refused } else { Unknown::Ignored };
    let Ok(bytes) = codec.from_json(json, unknown) else { return };
    // `0,` in a list of values is eleven bytes: the tag and length of each, and a double.
    assert!(bytes.len() <= 8 * json.len() + 64, "{} bytes of {}", bytes.len(), json.len());

    let mut out = vec![];
    codec.to_json(&bytes, &mut out).expect("what was read can be written");
    let again = codec.from_json(&out, Unknown::Refused).expect("what was written can be read");
    assert_eq!(ours(codec, &again), serde_json::from_slice(&out).unwrap());

    let message = DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).expect("a message");
    let mut reader = serde_json::Deserializer::from_slice(json);
    let options = prost_reflect::DeserializeOptions::new().deny_unknown_fields(unknown == Unknown::Refused);
    if let Ok(read) = DynamicMessage::deserialize_with_options(descriptor.clone(), &mut reader, &options) {
        assert_eq!(theirs(&message), theirs(&read));
    }
}

/// What we write of any bytes is JSON, no larger than names and digits explain, and what prost-reflect writes.
pub fn to_json(data: &[u8]) {
    let Some((_, Both { codec, descriptor }, bytes)) = chosen(data) else { return };
    let mut json = vec![];
    let result = codec.to_json(bytes, &mut json);
    // A byte of a packed enum is at most `"COLOR_UNSPECIFIED",`.
    assert!(json.len() <= 32 * bytes.len() + 1024, "{} bytes of {}", json.len(), bytes.len());
    let ours = ours(codec, bytes);
    assert_eq!(result.is_ok(), ours.is_some());
    // prost-reflect writes infinite wrappers as null and refuses an empty Any; broken bytes make such things.
    if descriptor.name() != "Known" {
        let decoded = DynamicMessage::decode(descriptor.clone(), bytes).ok();
        assert_eq!(ours, decoded.as_ref().and_then(theirs));
    }
}
