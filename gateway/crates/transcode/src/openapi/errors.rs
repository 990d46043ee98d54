//! Errors: the schema of a problem document (RFC 9457), and one response for each status that carries one.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Info;
use crate::binding::{Binding, Body};

/// The component's name; full names of messages have a dot, so it cannot be one of theirs.
pub(super) const PROBLEM: &str = "Problem";
const MEDIA_TYPE: &str = "application/problem+json";

/// One kind of error that a caller can see.
#[derive(Debug, Clone, Copy)]
pub struct ErrorCode {
    /// Its stable name.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What it means, in a few words.
    pub title: &'static str,
}

/// The document's schema.
pub(super) fn schema(info: &Info<'_>) -> Value {
    let codes: Vec<_> = info.errors.iter().map(|error| error.code).collect();
    json!({
        "type": "object",
        "description": "What went wrong, as RFC 9457 describes it.",
        "properties": {
            "type": {"type": "string", "format": "uri", "description": "Names the kind of problem."},
            "title": {"type": "string", "description": "The kind of problem for a person."},
            "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status."},
            "code": {"type": "string", "enum": codes, "description": "The kind of problem for a program. Codes are stable."},
            "detail": {"type": "string", "description": "What went wrong this time."},
            "request_id": {"type": "string", "description": "The request's id, as in the x-request-id header and the logs."},
            "errors": {
                "type": "array",
                "description": "Which fields are wrong. Absent where no field is to be named.",
                "items": {
                    "type": "object",
                    "properties": {
                        "field": {"type": "string", "description": "Where, for example `texts[0]`."},
                        "description": {"type": "string", "description": "What is wrong with it."}
                    },
                    "required": ["field", "description"]
                }
            }
        },
        "required": ["type", "title", "status", "code", "detail", "request_id"]
    })
}

/// All responses that operations refer to, by status.
pub(super) fn responses(info: &Info<'_>) -> Value {
    let mut by_status: BTreeMap<u16, Vec<&ErrorCode>> = BTreeMap::new();
    for error in info.errors {
        by_status.entry(error.status).or_default().push(error);
    }
    let mut responses: Map<_, _> =
        by_status.iter().map(|(status, errors)| (name(*status), response(info, *status, errors))).collect();
    let schema = super::schema::reference(PROBLEM);
    responses.insert(
        "ProblemOther".to_owned(),
        json!({"description": "Any other error.", "content": {MEDIA_TYPE: {"schema": schema}}}),
    );
    responses.into()
}

fn name(status: u16) -> String {
    format!("Problem{status}")
}

fn response(info: &Info<'_>, status: u16, errors: &[&ErrorCode]) -> Value {
    let texts: Vec<_> = errors.iter().map(|error| format!("{} (`{}`)", error.title, error.code)).collect();
    let mut example = json!({
        "type": format!("{}{}", info.problem_type, errors[0].code),
        "title": errors[0].title,
        "status": status,
        "code": errors[0].code,
        "detail": format!("{}.", errors[0].title),
        "request_id": "01hzy3v7k4xq"
    });
    if status == 400 {
        example["errors"] = json!([{"field": "texts[0]", "description": "is empty"}]);
    }
    let schema = super::schema::reference(PROBLEM);
    let mut response = json!({"description": format!("{}.", texts.join(", "))});
    let header = match status {
        401 => Some(("WWW-Authenticate", json!({"schema": {"type": "string"}}))),
        405 => Some(("Allow", json!({"schema": {"type": "string"}}))),
        429 | 503 => Some((
            "Retry-After",
            json!({"description": "Seconds after which it may work.", "schema": {"type": "integer", "minimum": 0}}),
        )),
        _ => None,
    };
    if let Some((name, header)) = header {
        response["headers"] = json!({name: header});
    }
    response["content"] = json!({MEDIA_TYPE: {"schema": schema, "example": example}});
    response
}

/// Adds what can go wrong with a binding to its responses.
pub(super) fn add(info: &Info<'_>, binding: &Binding, responses: &mut Map<String, Value>) {
    let takes_body = !matches!(binding.body, Body::None);
    for status in [400, 401, 403, 404, 408, 413, 415, 429, 500, 502, 503, 504] {
        let of_bodies = matches!(status, 408 | 413 | 415);
        if (takes_body || !of_bodies) && info.errors.iter().any(|error| error.status == status) {
            let to = format!("#/components/responses/{}", name(status));
            responses.insert(status.to_string(), json!({"$ref": to}));
        }
    }
    responses.insert("default".to_owned(), json!({"$ref": "#/components/responses/ProblemOther"}));
}
