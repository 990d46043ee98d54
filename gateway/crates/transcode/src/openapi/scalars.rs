//! Schemas of what has a JSON form of its own: scalars and the well-known types.

use prost_reflect::{Kind, MessageDescriptor};
use serde_json::{Value, json};

/// A scalar's schema, by the protobuf JSON mapping. Enums and messages are not scalars.
pub(super) fn scalar(kind: &Kind) -> Option<Value> {
    const INFINITE: &str = "^(NaN|-?Infinity)$";
    Some(match kind {
        Kind::Double => json!({"type": ["number", "string"], "format": "double", "pattern": INFINITE}),
        Kind::Float => json!({"type": ["number", "string"], "format": "float", "pattern": INFINITE}),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            json!({"type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX})
        }
        Kind::Uint32 | Kind::Fixed32 => {
            json!({"type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX})
        }
        // Strings on the way out, for not every JSON reader keeps 64 bits; numbers are read, too.
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            json!({"type": ["string", "integer"], "format": "int64",
            "pattern": "^-?[0-9]{1,19}$", "minimum": i64::MIN, "maximum": i64::MAX})
        }
        Kind::Uint64 | Kind::Fixed64 => json!({"type": ["string", "integer"], "format": "uint64",
            "pattern": "^[0-9]{1,20}$", "minimum": 0, "maximum": u64::MAX}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::String => json!({"type": "string"}),
        Kind::Bytes => json!({"type": "string", "contentEncoding": "base64",
            "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"}),
        Kind::Enum(_) | Kind::Message(_) => return None,
    })
}

/// The schema of a well-known type; none for other messages, which get a component.
pub(super) fn well_known(message: &MessageDescriptor) -> Option<Value> {
    if let Some(kind) = wrapped(message) {
        return scalar(&kind).map(nullable);
    }
    let name = message.full_name().strip_prefix("google.protobuf.")?;
    Some(match name {
        "Timestamp" => json!({"type": "string", "format": "date-time"}),
        "Duration" => json!({"type": "string", "pattern": "^-?[0-9]{1,12}(\\.[0-9]{1,9})?s$"}),
        "FieldMask" => json!({"type": "string", "pattern": "^([a-zA-Z0-9.]+(,[a-zA-Z0-9.]+)*)?$"}),
        "Struct" => json!({"type": "object", "additionalProperties": true}),
        "Value" => json!({"description": "Any JSON value."}),
        "ListValue" => json!({"type": "array", "items": {}}),
        "Empty" => json!({"type": "object", "additionalProperties": false}),
        // Without a type it is empty, and so are its fields.
        "Any" => json!({"type": "object", "anyOf": [{"required": ["@type"]}, {"maxProperties": 0}],
            "properties": {"@type": {"type": "string", "pattern": "/.+$"}}, "additionalProperties": true}),
        _ => return None,
    })
}

/// The kind inside a wrapper such as `google.protobuf.Int32Value`.
pub(super) fn wrapped(message: &MessageDescriptor) -> Option<Kind> {
    let of_protobuf = message.package_name() == "google.protobuf";
    let is_wrapper = of_protobuf && message.name().ends_with("Value") && message.fields().len() == 1;
    let field = message.get_field_by_name("value").filter(|field| is_wrapper && !field.is_list())?;
    Some(field.kind())
}

/// Takes null out of a wrapper's types. `NullValue` keeps it: there it is the value.
pub(super) fn forbid_null(schema: &mut Value) {
    if let Some(Value::Array(kinds)) = schema.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [only] = &kinds[..] {
            schema["type"] = only.clone();
        }
    }
}

fn nullable(mut schema: Value) -> Value {
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().cloned().chain(["null".into()]).collect(),
        kind => vec![kind.clone(), "null".into()],
    };
    schema["type"] = kinds.into();
    schema
}
