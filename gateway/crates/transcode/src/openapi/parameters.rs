//! Query parameters: the fields that neither path nor body sets, by dotted JSON names.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use super::{example, scalars, schema::Schemas};
use crate::{
    binding::{Binding, Body},
    query,
};

/// Names have this many parts at most, and when there are many, nested fields are left out; all can be set all the same.
const DEPTH: usize = 4;
const MANY: usize = 128;

/// All parameters of a binding's query.
pub(super) fn query(binding: &Binding, schemas: &mut Schemas) -> Vec<Value> {
    if matches!(binding.body, Body::Message) {
        return vec![];
    }
    let mut walk = Walk { binding, schemas, path: vec![], above: vec![], found: vec![] };
    walk.message(&binding.input);
    walk.found
}

struct Walk<'a> {
    binding: &'a Binding,
    schemas: &'a mut Schemas,
    /// The fields that lead to the message.
    path: Vec<FieldDescriptor>,
    /// The messages that lead to it: a recursive one is listed once.
    above: Vec<MessageDescriptor>,
    found: Vec<Value>,
}

impl Walk<'_> {
    fn message(&mut self, message: &MessageDescriptor) {
        self.above.push(message.clone());
        for field in message.fields() {
            self.path.push(field.clone());
            if !self.is_taken() {
                self.field(&field);
            }
            self.path.pop();
        }
        self.above.pop();
    }

    fn is_taken(&self) -> bool {
        let in_body = matches!(&self.binding.body, Body::Field(body) if self.path.first() == Some(body));
        in_body || self.binding.variables.contains(&self.path)
    }

    fn is_first_of_oneofs(&self) -> bool {
        self.path.iter().all(|field| {
            let first = field.containing_oneof().and_then(|oneof| oneof.fields().next());
            first.is_none_or(|first| first == *field)
        })
    }

    fn may_enter(&self, message: &MessageDescriptor) -> bool {
        self.path.len() < DEPTH && self.found.len() < MANY && !self.above.contains(message)
    }

    fn field(&mut self, field: &FieldDescriptor) {
        match field.kind() {
            kind if query::has_text_form(&kind) => {
                let parameter = self.parameter(field);
                self.found.push(parameter);
            }
            // A list of messages or a map has no form in a query.
            Kind::Message(inner) if !field.is_list() && !field.is_map() && self.may_enter(&inner) => {
                self.message(&inner);
            }
            _ => {}
        }
    }

    fn parameter(&mut self, field: &FieldDescriptor) -> Value {
        let name = self.path.iter().map(FieldDescriptor::json_name).collect::<Vec<_>>().join(".");
        let mut parameter = json!({"name": name, "in": "query"});
        let mut schema = self.schemas.field(field);
        if let Some(described) = schema.as_object_mut() {
            if let Some(text) = described.remove("description") {
                parameter["description"] = text;
            }
            if described.remove("deprecated").is_some() {
                parameter["deprecated"] = true.into();
            }
        }
        // There is no null in a query.
        scalars::forbid_null(&mut schema);
        if self.path.iter().all(FieldDescriptor::is_required) {
            parameter["required"] = true.into();
        }
        if let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
            parameter["x-oneof"] = oneof.name().into();
        }
        parameter["schema"] = schema;
        // Examples of all parameters together must make a request that is accepted.
        if self.is_first_of_oneofs() {
            let example = example::single(field);
            parameter["example"] = if field.is_list() { json!([example]) } else { example };
        }
        parameter
    }
}
