//! From descriptors to plans.

use std::collections::HashMap;

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, Kind as Described, MessageDescriptor, Syntax,
};

use crate::Unknown;

use super::{EnumId, EnumPlan, FieldPlan, Form, Kind, MessageId, MessagePlan, Plans, Shape, Tag, wire_type};

/// No field has this number.
pub(super) const NONE: u16 = u16::MAX;
/// Numbers below this are looked up directly.
const DENSE: u32 = 256;

impl Plans {
    /// Compiles all messages of a pool.
    /// `unknown` says what becomes of fields in requests that no message has.
    pub(crate) fn new(pool: &DescriptorPool, unknown: Unknown) -> Self {
        let messages: Vec<_> = pool.all_messages().collect();
        let enums: Vec<_> = pool.all_enums().collect();
        let ids = Ids {
            messages: ids(messages.iter().map(MessageDescriptor::full_name)),
            enums: ids(enums.iter().map(EnumDescriptor::full_name)),
        };
        Self {
            messages: messages.into_iter().map(|message| MessagePlan::new(message, &ids)).collect(),
            enums: enums.iter().map(EnumPlan::new).collect(),
            by_name: ids.messages.into_iter().map(|(name, id)| (name, MessageId(id))).collect(),
            unknown,
        }
    }
}

fn ids<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<String, u32> {
    names.zip(0..).map(|(name, id)| (name.to_owned(), id)).collect()
}

struct Ids {
    messages: HashMap<String, u32>,
    enums: HashMap<String, u32>,
}

impl Ids {
    fn kind(&self, kind: &Described, group: bool) -> Kind {
        match kind {
            Described::Double => Kind::Double,
            Described::Float => Kind::Float,
            Described::Int32 => Kind::Int32,
            Described::Int64 => Kind::Int64,
            Described::Uint32 => Kind::Uint32,
            Described::Uint64 => Kind::Uint64,
            Described::Sint32 => Kind::Sint32,
            Described::Sint64 => Kind::Sint64,
            Described::Fixed32 => Kind::Fixed32,
            Described::Fixed64 => Kind::Fixed64,
            Described::Sfixed32 => Kind::Sfixed32,
            Described::Sfixed64 => Kind::Sfixed64,
            Described::Bool => Kind::Bool,
            Described::String => Kind::String,
            Described::Bytes => Kind::Bytes,
            Described::Enum(it) => Kind::Enum(EnumId(self.enums[it.full_name()])),
            Described::Message(it) if group => Kind::Group(MessageId(self.messages[it.full_name()])),
            Described::Message(it) => Kind::Message(MessageId(self.messages[it.full_name()])),
        }
    }
}

impl MessagePlan {
    fn new(descriptor: MessageDescriptor, ids: &Ids) -> Self {
        let oneofs: Vec<_> = descriptor.oneofs().filter(|oneof| !oneof.is_synthetic()).collect();
        let mut fields: Vec<FieldPlan> = vec![];
        for field in descriptor.fields() {
            let oneof = field.containing_oneof();
            let oneof = oneof.and_then(|oneof| oneofs.iter().position(|other| *other == oneof));
            fields.push(FieldPlan::new(&field, oneof.and_then(|oneof| u16::try_from(oneof).ok()), ids));
        }
        for extension in descriptor.extensions() {
            let shape =
                if extension.is_list() { Shape::List { packed: extension.is_packed() } } else { Shape::One };
            let kind = ids.kind(&extension.kind(), extension.is_group());
            let name = format!("[{}]", extension.full_name());
            fields.push(FieldPlan::of(extension.number(), &name, &name, kind, shape, true));
        }
        fields.sort_by_key(|field| field.number);
        let places = || fields.iter().zip(0..NONE);
        let mut dense = vec![];
        for (field, place) in places().filter(|(field, _)| field.number < DENSE) {
            dense.resize(field.number as usize, NONE);
            dense.push(place);
        }
        // Where a name is one field's own and another's in JSON, JSON's wins, as in every implementation.
        let own = places().map(|(field, place)| (field.name.clone(), place));
        let json = places().map(|(field, place)| (field.json_name.clone(), place));
        Self {
            form: form(&descriptor),
            oneofs: oneofs.len(),
            dense,
            names: own.chain(json).collect(),
            fields,
            descriptor,
        }
    }
}

impl FieldPlan {
    fn new(field: &FieldDescriptor, oneof: Option<u16>, ids: &Ids) -> Self {
        let described = field.kind();
        let (kind, shape) = match &described {
            Described::Message(entry) if field.is_map() => {
                let key = ids.kind(&entry.map_entry_key_field().kind(), false);
                (ids.kind(&entry.map_entry_value_field().kind(), false), Shape::Map { key })
            }
            _ if field.is_list() => {
                (ids.kind(&described, field.is_group()), Shape::List { packed: field.is_packed() })
            }
            _ => (ids.kind(&described, field.is_group()), Shape::One),
        };
        let presence = field.supports_presence();
        Self { oneof, ..Self::of(field.number(), field.name(), field.json_name(), kind, shape, presence) }
    }

    fn of(number: u32, name: &str, json_name: &str, kind: Kind, shape: Shape, presence: bool) -> Self {
        let mut key = b",".to_vec();
        crate::to_json::text::quoted(json_name, &mut key);
        key.push(b':');
        let wire_type = match shape {
            Shape::Map { .. } => wire_type::DELIMITED,
            Shape::List { packed: true } if kind.packable() => wire_type::DELIMITED,
            _ => kind.wire_type(),
        };
        Self {
            number,
            name: name.into(),
            json_name: json_name.into(),
            key: key.into(),
            tag: Tag::new(number, wire_type),
            kind,
            shape,
            presence,
            oneof: None,
        }
    }
}

impl EnumPlan {
    fn new(descriptor: &EnumDescriptor) -> Self {
        let mut by_number: Vec<(i32, Box<str>)> = vec![];
        // Of several names for a number the first is the one that is written.
        for value in descriptor.values() {
            if !by_number.iter().any(|(number, _)| *number == value.number()) {
                by_number.push((value.number(), format!("\"{}\"", value.name()).into()));
            }
        }
        by_number.sort_by_key(|(number, _)| *number);
        Self {
            is_null: descriptor.full_name() == "google.protobuf.NullValue",
            closed: descriptor.parent_file().syntax() == Syntax::Proto2,
            by_number,
            by_name: descriptor.values().map(|value| (value.name().into(), value.number())).collect(),
        }
    }
}

fn form(descriptor: &MessageDescriptor) -> Form {
    if descriptor.package_name() != "google.protobuf" {
        return Form::Fields;
    }
    match descriptor.name() {
        "Any" => Form::Any,
        "Duration" => Form::Duration,
        "FieldMask" => Form::FieldMask,
        "ListValue" => Form::ListValue,
        "Struct" => Form::Struct,
        "Timestamp" => Form::Timestamp,
        "Value" => Form::Value,
        "BoolValue" | "BytesValue" | "DoubleValue" | "FloatValue" | "Int32Value" | "Int64Value"
        | "StringValue" | "UInt32Value" | "UInt64Value" => Form::Wrapper,
        _ => Form::Fields,
    }
}
