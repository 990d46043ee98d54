//! The OpenAPI document at `/openapi.json`: of the contracts, with a list of the documents that HTTP services have.

use super::Document;
use crate::{config, edge::Code, edge::problem, snapshot::Snapshot};
use serde_json::{Value, json};
use transcode::openapi::{ErrorCode, Info};

/// Where it is.
pub(super) const PATH: &str = "/openapi.json";

const DESCRIPTION: &str = "The methods of the protobuf contracts as JSON over HTTP, in the protobuf JSON mapping: a \
    field with its default value is left out, 64-bit integers are strings, and null stands for an absent field. Names \
    are written in lowerCamelCase. What is written here is the canonical form; the mapping's other forms (the contract's \
    own names, numbers for enum values, strings for numbers, null for what is absent) are read, too. An unknown field is \
    an error that names it.\n\n\
    A `request-timeout` header (seconds) shortens the time that a call may take. Every response carries an \
    `x-request-id`. Errors are problem documents (RFC 9457).";

/// The document as it is served.
pub(super) fn render(snapshot: &Snapshot) -> Document {
    Document::new(document(snapshot, false).to_string())
}

pub(super) fn document(snapshot: &Snapshot, internal: bool) -> Value {
    let error = |code: &Code| ErrorCode { code: code.name(), status: code.status(), title: code.title() };
    let errors: Vec<_> = Code::ALL.iter().map(error).collect();
    let info = Info {
        title: "Hybrid Gateway",
        version: env!("CARGO_PKG_VERSION"),
        description: DESCRIPTION,
        errors: &errors,
        problem_type: problem::TYPE,
        query_token: Some("access_token"),
    };
    let mut document = snapshot.contract.openapi(&info, internal);
    let mut documents = vec![json!({"name": "contracts", "url": PATH})];
    let routes = snapshot.config.routes.values();
    documents.extend(routes.filter_map(listed));
    document["x-documents"] = documents.into();
    document
}

/// A service's own document with what the route asks of callers, which the service cannot know.
fn listed(route: &config::Route) -> Option<Value> {
    let security = match route.access {
        config::RouteAccess::Public => json!([{}, {"bearer": []}]),
        config::RouteAccess::Authenticated => json!([{"bearer": route.scopes.0}]),
        config::RouteAccess::Internal => return None,
    };
    Some(json!({"name": route.upstream, "url": route.openapi.as_ref()?, "security": security}))
}
