//! Schemas of messages, enums and fields, by the protobuf JSON mapping. Messages become components under their full
//! names, so that recursive ones refer to themselves.

use std::collections::BTreeMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor};
use serde_json::{Map, Value, json};

use super::{comments::Comments, scalars};
use crate::Unknown;

/// Pairs of a oneof's members are excluded one by one up to this size; the description says it in any case.
const PAIRED_MEMBERS: usize = 16;

/// Collects the components that the document refers to.
pub(super) struct Schemas {
    pub(super) comments: Comments,
    components: BTreeMap<String, Value>,
    /// Messages that are referred to and not yet written: a list, for contracts nest deeper than a stack.
    pending: Vec<MessageDescriptor>,
    unknown: Unknown,
}

impl Schemas {
    pub(super) fn new(comments: Comments, unknown: Unknown) -> Self {
        Self { comments, components: BTreeMap::new(), pending: vec![], unknown }
    }

    /// All components by name, once everything that refers to them is written.
    pub(super) fn finish(mut self) -> BTreeMap<String, Value> {
        while let Some(message) = self.pending.pop() {
            let schema = self.object(&message, &[]);
            self.components.insert(message.full_name().to_owned(), schema);
        }
        self.components
    }

    /// A message's schema: inline for well-known types, otherwise a reference to its component.
    pub(super) fn message(&mut self, message: &MessageDescriptor) -> Value {
        if let Some(schema) = scalars::well_known(message) {
            return schema;
        }
        let name = message.full_name();
        if !self.components.contains_key(name) {
            self.components.insert(name.to_owned(), Value::Null);
            self.pending.push(message.clone());
        }
        reference(name)
    }

    /// A message's own schema without the fields that `captured` names: these are in the path already.
    pub(super) fn object(&mut self, message: &MessageDescriptor, captured: &[&[FieldDescriptor]]) -> Value {
        let mut properties = Map::new();
        let mut required: Vec<String> = vec![];
        for field in message.fields() {
            let below: Vec<_> = captured.iter().filter_map(|path| path.split_first()).collect();
            let below: Vec<_> =
                below.into_iter().filter(|(first, _)| **first == field).map(|(_, rest)| rest).collect();
            if below.iter().any(|rest| rest.is_empty()) {
                continue;
            }
            let schema = match field.kind() {
                Kind::Message(inner) if !below.is_empty() => self.object(&inner, &below),
                _ => self.field(&field),
            };
            if field.is_required() {
                required.push(field.json_name().to_owned());
            }
            properties.insert(field.json_name().to_owned(), schema);
        }
        let mut schema = json!({"type": "object"});
        describe(&mut schema, self.comments.at(&message.parent_file(), message.path()));
        schema["properties"] = properties.into();
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        if message.extension_ranges().len() > 0 {
            schema["patternProperties"] = json!({"^\\[.+\\]$": {}});
        }
        if self.unknown == Unknown::Refused {
            schema["additionalProperties"] = false.into();
        }
        if is_deprecated(message.descriptor_proto().options.as_ref().and_then(|o| o.deprecated)) {
            schema["deprecated"] = true.into();
        }
        self.oneofs(message, captured, &mut schema);
        schema
    }

    /// A field's schema with its comment, its cardinality included.
    pub(super) fn field(&mut self, field: &FieldDescriptor) -> Value {
        let mut schema = self.value(field);
        describe(&mut schema, self.comments.at(&field.parent_message().parent_file(), field.path()));
        if is_deprecated(field.field_descriptor_proto().options.as_ref().and_then(|o| o.deprecated)) {
            schema["deprecated"] = true.into();
        }
        schema
    }

    fn value(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => self.map(&entry),
            kind if field.is_list() => json!({"type": "array", "items": self.element(&kind)}),
            kind => self.kind(&kind),
        }
    }

    /// A value in a list or map: never null, unlike a field.
    fn element(&mut self, kind: &Kind) -> Value {
        let mut schema = self.kind(kind);
        scalars::forbid_null(&mut schema);
        schema
    }

    /// A single value of this kind.
    pub(super) fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Message(message) => self.message(message),
            Kind::Enum(of) => self.enumeration(of),
            kind => scalars::scalar(kind).unwrap_or_default(),
        }
    }

    /// Keys are JSON strings, whatever their type.
    fn map(&mut self, entry: &MessageDescriptor) -> Value {
        let values = self.element(&entry.map_entry_value_field().kind());
        let mut schema = json!({"type": "object", "additionalProperties": values});
        match entry.map_entry_key_field().kind() {
            Kind::String => {}
            Kind::Bool => schema["propertyNames"] = json!({"enum": ["true", "false"]}),
            Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64 => {
                schema["propertyNames"] = json!({"pattern": "^[0-9]+$"});
            }
            _ => schema["propertyNames"] = json!({"pattern": "^-?[0-9]+$"}),
        }
        schema
    }

    fn enumeration(&mut self, of: &EnumDescriptor) -> Value {
        let name = of.full_name();
        if name == "google.protobuf.NullValue" {
            return json!({"type": "null"});
        }
        if !self.components.contains_key(name) {
            let file = of.parent_file();
            let mut schema = json!({"type": "string"});
            describe(&mut schema, self.comments.at(&file, of.path()));
            schema["enum"] = of.values().map(|value| value.name().to_owned()).collect();
            let comment = |value: &prost_reflect::EnumValueDescriptor| {
                let text = self.comments.at(&file, value.path());
                (!text.is_empty()).then(|| (value.name().to_owned(), Value::from(text)))
            };
            let comments: Map<_, _> = of.values().filter_map(|value| comment(&value)).collect();
            if !comments.is_empty() {
                schema["x-enumDescriptions"] = comments.into();
            }
            self.components.insert(name.to_owned(), schema);
        }
        reference(name)
    }

    /// At most one member of each oneof can be there.
    fn oneofs(&self, message: &MessageDescriptor, captured: &[&[FieldDescriptor]], schema: &mut Value) {
        let in_path = |field: &FieldDescriptor| captured.iter().any(|path| **path == [field.clone()]);
        let (mut pairs, mut names) = (vec![], vec![]);
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            let members: Vec<_> = oneof.fields().filter(|field| !in_path(field)).collect();
            let members: Vec<_> = members.iter().map(FieldDescriptor::json_name).collect();
            if members.len() <= PAIRED_MEMBERS {
                for (at, one) in members.iter().enumerate() {
                    pairs.extend(members[at + 1..].iter().map(|other| json!({"required": [one, other]})));
                }
            }
            names.push(self.oneof(&oneof, &members));
        }
        if !pairs.is_empty() {
            schema["not"] = json!({"anyOf": pairs});
        }
        if !names.is_empty() {
            schema["x-oneof"] = names.into();
        }
    }

    fn oneof(&self, oneof: &OneofDescriptor, members: &[&str]) -> Value {
        let mut value = json!({"name": oneof.name(), "members": members});
        describe(&mut value, self.comments.at(&oneof.parent_file(), oneof.path()));
        value
    }
}

/// A reference to a component of the schemas.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Puts a description first, where there is one.
pub(super) fn describe(schema: &mut Value, text: &str) {
    if !text.is_empty() {
        schema["description"] = text.into();
    }
}

pub(super) fn is_deprecated(option: Option<bool>) -> bool {
    option == Some(true)
}
