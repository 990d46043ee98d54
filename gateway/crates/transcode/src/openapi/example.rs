//! Examples: made from types and field names alone, so that the same contract gives the same ones. They are valid.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::scalars;

/// Messages in an example nest this deep, unless they are required.
const DEPTH: usize = 5;
/// An example has about as many messages at most.
const MESSAGES: usize = 32;

/// A message with every field set that can be, but one member of each oneof, and without `captured` fields.
pub(super) fn message(message: &MessageDescriptor, captured: &[&[FieldDescriptor]]) -> Value {
    Maker::default().message(message, captured)
}

/// A field's value, a list or map with one element.
pub(super) fn field(field: &FieldDescriptor) -> Value {
    Maker::default().field(field).unwrap_or(Value::Null)
}

/// A single value of a field's kind, for a path or query.
pub(super) fn single(field: &FieldDescriptor) -> Value {
    Maker::default().kind(&field.kind(), field.name()).unwrap_or(Value::Null)
}

#[derive(Default)]
struct Maker {
    /// The messages around the one being made: none is made inside itself.
    above: Vec<MessageDescriptor>,
    made: usize,
}

impl Maker {
    fn message(&mut self, message: &MessageDescriptor, captured: &[&[FieldDescriptor]]) -> Value {
        if let Some(value) = well_known(message) {
            return value;
        }
        self.above.push(message.clone());
        self.made += 1;
        let mut object = Map::new();
        let mut chosen = vec![];
        for field in message.fields() {
            let below = captured.iter().filter(|path| path.first() == Some(&field)).map(|path| &path[1..]);
            let below: Vec<_> = below.collect();
            let oneof = field.containing_oneof().map(|oneof| oneof.full_name().to_owned());
            if below.iter().any(|rest| rest.is_empty()) || oneof.as_ref().is_some_and(|o| chosen.contains(o))
            {
                chosen.extend(oneof);
                continue;
            }
            let value = match field.kind() {
                Kind::Message(inner) if !below.is_empty() => Some(self.message(&inner, &below)),
                _ => self.field(&field),
            };
            if let Some(value) = value {
                object.insert(field.json_name().to_owned(), value);
                chosen.extend(oneof);
            }
        }
        self.above.pop();
        object.into()
    }

    /// None where the value would hold itself, or the example has grown large.
    fn field(&mut self, field: &FieldDescriptor) -> Option<Value> {
        let is_large = self.above.len() >= DEPTH || self.made >= MESSAGES;
        if is_large && !field.is_required() && matches!(field.kind(), Kind::Message(_)) {
            return None;
        }
        match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let key = match entry.map_entry_key_field().kind() {
                    Kind::String => "key",
                    Kind::Bool => "true",
                    _ => "1",
                };
                let value = self.kind(&entry.map_entry_value_field().kind(), field.name())?;
                Some(json!({key: value}))
            }
            kind => {
                let value = self.kind(&kind, field.name())?;
                Some(if field.is_list() { json!([value]) } else { value })
            }
        }
    }

    fn kind(&mut self, kind: &Kind, name: &str) -> Option<Value> {
        Some(match kind {
            Kind::Message(inner) if self.above.contains(inner) => return None,
            Kind::Message(inner) => match scalars::wrapped(inner) {
                Some(kind) => self.kind(&kind, name)?,
                None => self.message(inner, &[]),
            },
            Kind::Enum(of) if of.full_name() == "google.protobuf.NullValue" => Value::Null,
            // The first value mostly means that nothing was said.
            Kind::Enum(of) => {
                let mut values = of.values();
                let first = values.next()?;
                values.next().unwrap_or(first).name().into()
            }
            Kind::Double | Kind::Float => 0.5.into(),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => "1".into(),
            Kind::Bool => true.into(),
            Kind::String => text(name).into(),
            Kind::Bytes => "ZXhhbXBsZQ==".into(),
            _ => 1.into(),
        })
    }
}

fn well_known(message: &MessageDescriptor) -> Option<Value> {
    Some(match message.full_name().strip_prefix("google.protobuf.")? {
        "Timestamp" => "2026-01-02T03:04:05Z".into(),
        "Duration" => "1.500s".into(),
        "FieldMask" => "name".into(),
        "Struct" => json!({"key": "value"}),
        "Value" => "value".into(),
        "ListValue" => json!(["value"]),
        "Empty" => json!({}),
        "Any" => json!({"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1.500s"}),
        _ => return None,
    })
}

/// A text that looks like what the field's name promises.
fn text(name: &str) -> String {
    let last = name.rsplit('_').next().unwrap_or(name);
    match last {
        "id" | "key" | "uid" | "uuid" => "example-1".to_owned(),
        "uri" | "url" | "link" => "https://example.org/".to_owned(),
        "email" | "mail" => "ann@example.org".to_owned(),
        "question" => "What does the gateway do?".to_owned(),
        "language" | "locale" => "en".to_owned(),
        "owner" | "user" | "subject" | "author" => "alice".to_owned(),
        "text" | "texts" | "content" | "message" | "body" | "passage" => "An example text.".to_owned(),
        _ => format!("example {}", name.replace('_', " ")),
    }
}
