//! Query parameters into a message. The first byte chooses the message type; the rest is the query.

use std::{collections::BTreeMap, sync::LazyLock};

use percent_encoding::percent_decode_str;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};
use transcode::{Contract, Routed};

use super::types::{Both, NAMES, SOURCE, TYPES, theirs};

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| {
    let rpc = |name| {
        format!("rpc {name}({name}) returns ({name}) {{ option (google.api.http) = {{get: \"/{name}\"}}; }}")
    };
    let methods = NAMES.map(rpc).concat();
    let service = format!(
        "syntax = \"proto3\"; package shapes; import \"google/api/annotations.proto\"; \
         import \"shapes.proto\"; service Shapes {{ {methods} }}"
    );
    Contract::from_sources(&BTreeMap::from([("shapes.proto", SOURCE), ("service.proto", &service)])).unwrap()
});

/// A query that is taken makes a message; and it is the one that prost-reflect reads from the same values as JSON.
pub fn query(data: &[u8]) {
    let Some((&choice, query)) = data.split_first() else { return };
    let Ok(query) = std::str::from_utf8(query) else { return };
    let choice = usize::from(choice) % NAMES.len();
    let Both { codec, descriptor } = &TYPES[choice];
    let Routed::Matched(call) = CONTRACT.route(&http::Method::GET, &format!("/{}", NAMES[choice])) else {
        panic!("no route")
    };
    let Ok(bytes) = call.encode_request(Some(query), b"") else { return };
    // Each parent of a dotted name has a tag and a length, which one letter and a dot can name.
    assert!(bytes.len() <= 8 * query.len() + 64, "{} bytes of {}", bytes.len(), query.len());
    codec.to_json(&bytes, &mut vec![]).expect("what was read can be written");
    let message = DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).expect("a message");
    let document = document(descriptor, query);
    if let Ok(read) = DynamicMessage::deserialize(descriptor.clone(), &document) {
        assert_eq!(theirs(&message), theirs(&read), "{document}");
    }
}

/// The query as the JSON document that says the same.
fn document(message: &MessageDescriptor, query: &str) -> Value {
    let mut root = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name), decoded(value));
        let (mut object, mut message) = (&mut root, message.clone());
        let mut parts = name.split('.').peekable();
        while let Some(part) = parts.next() {
            let by_name = || message.get_field_by_name(part);
            let field = message.get_field_by_json_name(part).or_else(by_name).expect("a field that exists");
            if parts.peek().is_none() {
                put(object, &field, text_value(&field.kind(), &value));
                break;
            }
            let inner = object.entry(field.json_name()).or_insert_with(|| Map::new().into());
            object = inner.as_object_mut().expect("a message");
            message = field.kind().as_message().expect("a message").clone();
        }
    }
    root.into()
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().expect("what is no UTF-8 is refused").into_owned()
}

fn put(object: &mut Map<String, Value>, field: &FieldDescriptor, value: Value) {
    if field.is_list() {
        let list = object.entry(field.json_name()).or_insert_with(|| Value::Array(vec![]));
        list.as_array_mut().expect("a list").push(value);
    } else {
        object.insert(field.json_name().to_owned(), value);
    }
}

/// Numbers and `true` as themselves, all else as text.
fn text_value(kind: &Kind, text: &str) -> Value {
    let inner = kind.as_message().and_then(|message| message.get_field_by_name("value"));
    match (kind, inner) {
        (Kind::Message(_), Some(value)) => text_value(&value.kind(), text),
        (Kind::Message(_) | Kind::String | Kind::Bytes, _) => text.into(),
        (Kind::Bool, _) if matches!(text, "true" | "false") => (text == "true").into(),
        (Kind::Enum(_), _) => text.parse::<i32>().map_or_else(|_| text.into(), Value::from),
        _ => text.into(),
    }
}
