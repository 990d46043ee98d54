//! One operation: a binding of a method with its parameters, body, responses and security.

use prost_reflect::{FieldDescriptor, Kind};
use serde_json::{Map, Value, json};

use super::{
    Info, comments, errors, example, parameters,
    path::Path,
    schema::{Schemas, is_deprecated, reference},
};
use crate::{
    Access,
    binding::{Binding, Body},
    http_body,
};

pub(super) const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";
/// Names of the security schemes.
pub(super) const BEARER: &str = "bearer";
pub(super) const QUERY_TOKEN: &str = "queryToken";
pub(super) const SERVICE: &str = "service";

/// Writes an operation. `number` is the binding's place among those of its method, from 1.
pub(super) fn write(
    info: &Info<'_>,
    binding: &Binding,
    number: usize,
    path: Path,
    schemas: &mut Schemas,
) -> Value {
    let method = binding.method.descriptor();
    let comment = schemas.comments.at(&method.parent_file(), method.path());
    let (summary, description) = comments::split(comment);
    let timeout = binding.method.timeout().map(|timeout| bound(timeout.as_secs_f64()));
    let description = [description, timeout.unwrap_or_default().as_str()].join("\n\n");
    let mut operation = json!({
        "tags": [method.parent_service().full_name()],
        "operationId": id(binding, number),
        "summary": if summary.is_empty() { method.name() } else { summary },
    });
    if !description.trim().is_empty() {
        operation["description"] = description.trim().into();
    }
    if is_deprecated(method.method_descriptor_proto().options.as_ref().and_then(|o| o.deprecated)) {
        operation["deprecated"] = true.into();
    }
    let mut listed = path.parameters;
    listed.extend(parameters::query(binding, schemas));
    if !listed.is_empty() {
        operation["parameters"] = listed.into();
    }
    if let Some(body) = request_body(binding, schemas) {
        operation["requestBody"] = body;
    }
    let mut responses = Map::new();
    responses.insert("200".to_owned(), success(binding, schemas));
    errors::add(info, binding, &mut responses);
    operation["responses"] = responses.into();
    let (security, access) = security(info, binding);
    operation["security"] = security;
    operation["x-access"] = access;
    operation["x-grpc-method"] = binding.method.grpc_path().as_str().into();
    operation["x-template"] = binding.template.text().into();
    if binding.method.has_no_side_effects() {
        operation["x-no-side-effects"] = true.into();
    }
    operation
}

/// What the contract's own timeout says to a caller.
fn bound(seconds: f64) -> String {
    let unit = if seconds == 1.0 { "second" } else { "seconds" };
    format!("A call ends after {seconds} {unit} at most.")
}

/// The method's full name; numbered for additional bindings.
pub(super) fn id(binding: &Binding, number: usize) -> String {
    let name = binding.method.full_name();
    if number == 1 { name.to_owned() } else { format!("{name}.{number}") }
}

fn request_body(binding: &Binding, schemas: &mut Schemas) -> Option<Value> {
    let captured: Vec<&[FieldDescriptor]> = binding.variables.iter().map(Vec::as_slice).collect();
    let (schema, example) = match &binding.body {
        Body::None => return None,
        Body::Message if http_body::is(&binding.input) => return Some(raw("The content, of any type.")),
        Body::Field(field) if is_raw(field) => return Some(raw("The content, of any type.")),
        Body::Message if captured.is_empty() => {
            (schemas.message(&binding.input), example::message(&binding.input, &[]))
        }
        Body::Message => {
            (schemas.object(&binding.input, &captured), example::message(&binding.input, &captured))
        }
        Body::Field(field) => (schemas.field(field), example::field(field)),
    };
    let mut body = json!({"content": {}});
    if binding.method.is_client_streaming() {
        body["description"] = "One JSON document a line, each a message of the stream.".into();
        body["content"][LINES] = json!({"schema": schema, "example": example,
            "x-stream": {"framing": "lines", "item": schema}});
    } else {
        body["content"][JSON] = json!({"schema": schema, "example": example});
    }
    Some(body)
}

fn success(binding: &Binding, schemas: &mut Schemas) -> Value {
    let (item, example) = match &binding.response_body {
        None if http_body::is(&binding.output) => {
            return raw("The content, of the type that the service says.");
        }
        Some(field) if is_raw(field) => return raw("The content, of the type that the service says."),
        None => (schemas.message(&binding.output), example::message(&binding.output, &[])),
        Some(field) => {
            let schema = schemas.field(field);
            // Alone, an absent message is null.
            let absent = field.supports_presence();
            let schema = if absent { json!({"anyOf": [schema, {"type": "null"}]}) } else { schema };
            (schema, example::field(field))
        }
    };
    if !binding.method.is_server_streaming() {
        return json!({"description": "OK", "content": {JSON: {"schema": item, "example": example}}});
    }
    let problem = reference(errors::PROBLEM);
    let stream = |framing: &str| json!({"framing": framing, "item": item, "error": problem});
    let events = json!({"schema": event(&item), "example": {"data": example.to_string()},
        "x-stream": stream("events")});
    let lines = json!({"schema": item, "x-stream": stream("lines")});
    let array = json!({"schema": {"type": "array", "items": item}, "example": [example],
        "x-stream": stream("array")});
    json!({
        "description": "A stream of messages; `Accept` chooses its form. As events, each `data` is a message as JSON; \
            an `end` event says that the stream is complete, and an `error` event with a problem document that it \
            is not. The schema is that of one event, or of one line.",
        "content": {EVENTS: events, LINES: lines, JSON: array}
    })
}

/// An event as OpenAPI 3.2 models it, which tools for 3.1 read already: its fields, the data a text that holds JSON.
fn event(item: &Value) -> Value {
    json!({"type": "object", "required": ["data"], "properties": {
        "event": {"type": "string", "enum": ["message", "end", "error"]},
        "data": {"type": "string", "contentMediaType": JSON, "contentSchema": item},
    }})
}

fn raw(description: &str) -> Value {
    json!({"description": description, "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}})
}

fn is_raw(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(message) if !field.is_list() && http_body::is(&message))
}

/// What a caller must bring, and the contract's rule.
fn security(info: &Info<'_>, binding: &Binding) -> (Value, Value) {
    let by_query = info.query_token.is_some()
        && matches!(binding.body, Body::None)
        && binding.method.is_server_streaming();
    let with_scopes = |scopes: &[String]| {
        let mut ways = vec![json!({BEARER: scopes})];
        if by_query {
            ways.push(json!({QUERY_TOKEN: scopes}));
        }
        ways
    };
    match binding.method.access() {
        Access::Denied => (json!([]), json!({"level": "denied"})),
        Access::Public => {
            let mut ways = vec![json!({})];
            ways.extend(with_scopes(&[]));
            (ways.into(), json!({"level": "public"}))
        }
        Access::Authenticated { scopes, .. } => {
            (with_scopes(scopes).into(), json!({"level": "authenticated", "scopes": scopes}))
        }
        Access::Internal => (json!([{SERVICE: []}]), json!({"level": "internal"})),
    }
}
