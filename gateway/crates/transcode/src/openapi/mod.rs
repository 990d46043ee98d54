//! OpenAPI 3.1 of a contract: its HTTP bindings as operations, its messages as schemas, its comments as descriptions.
//!
//! - `operation`, `path`, `parameters`, `errors`: an operation's parts · `schema`, `scalars`: the JSON mapping
//! - `comments`: from the sources · `example`: made from types and names
//!
//! What OpenAPI cannot hold is listed under `x-omitted`, never left out in silence.

mod comments;
mod errors;
mod example;
mod operation;
mod parameters;
mod path;
mod scalars;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

pub use self::errors::ErrorCode;
use self::{comments::Comments, path::Path, schema::Schemas};
use crate::{Access, Contract, Method, binding::Binding};

/// The HTTP methods that a path of OpenAPI 3.1 can have.
const VERBS: [&str; 8] = ["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"];

/// What the document says that the contract does not.
#[derive(Debug, Clone, Copy)]
pub struct Info<'a> {
    /// The API's name.
    pub title: &'a str,
    /// Its version.
    pub version: &'a str,
    /// What a reader should know first (Markdown).
    pub description: &'a str,
    /// Every error that a caller can see.
    pub errors: &'a [ErrorCode],
    /// What a problem document's `type` begins with; the code follows.
    pub problem_type: &'a str,
    /// The query parameter that takes a token for streams by `GET`, where browsers cannot set headers.
    pub query_token: Option<&'a str>,
}

impl Contract {
    /// The contract as an OpenAPI 3.1 document: the bindings of the methods that `include` accepts.
    pub fn openapi(&self, info: &Info<'_>, include: impl Fn(&Method) -> bool) -> Value {
        let comments = self.bindings().first().map(|binding| Comments::of(binding.input.parent_pool()));
        let mut writer = Writer {
            info,
            schemas: Schemas::new(comments.unwrap_or_default(), self.unknown()),
            paths: BTreeMap::new(),
            by_shape: HashMap::new(),
            tags: BTreeMap::new(),
            omitted: vec![],
        };
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for binding in self.bindings().iter().filter(|binding| include(&binding.method)) {
            let number = numbers.entry(binding.method.full_name()).or_default();
            *number += 1;
            writer.binding(binding, *number);
        }
        let internal = self.methods().iter().any(|m| include(m) && *m.access() == Access::Internal);
        writer.finish(internal)
    }
}

struct Writer<'a> {
    info: &'a Info<'a>,
    schemas: Schemas,
    paths: BTreeMap<String, Map<String, Value>>,
    /// The text and the parameters' names of each shape's path.
    by_shape: HashMap<String, (String, Vec<String>)>,
    tags: BTreeMap<String, Value>,
    omitted: Vec<Value>,
}

impl Writer<'_> {
    fn binding(&mut self, binding: &Binding, number: usize) {
        if !VERBS.contains(&binding.verb.as_str()) {
            return self.omit(binding, number, "OpenAPI 3.1 has no such HTTP method");
        }
        let mut path = Path::new(binding, &mut self.schemas);
        if let Some((text, names)) = self.by_shape.get(&path.shape) {
            path.text.clone_from(text);
            path.rename(names);
        } else {
            self.by_shape.insert(path.shape.clone(), (path.text.clone(), path.names.clone()));
        }
        let verb = binding.verb.as_str().to_ascii_lowercase();
        if self.paths.get(&path.text).is_some_and(|operations| operations.contains_key(&verb)) {
            return self.omit(binding, number, "OpenAPI cannot tell its path from another operation's");
        }
        self.tag(binding);
        let text = path.text.clone();
        let operation = operation::write(self.info, binding, number, path, &mut self.schemas);
        self.paths.entry(text).or_default().insert(verb, operation);
    }

    fn omit(&mut self, binding: &Binding, number: usize, reason: &str) {
        self.omitted.push(json!({"operationId": operation::id(binding, number),
            "method": binding.verb.as_str(), "path": binding.template.text(), "reason": reason}));
    }

    fn tag(&mut self, binding: &Binding) {
        let descriptor = binding.method.descriptor();
        let service = descriptor.parent_service();
        if self.tags.contains_key(service.full_name()) {
            return;
        }
        let mut tag = json!({"name": service.full_name(), "x-displayName": service.name()});
        schema::describe(&mut tag, self.schemas.comments.at(&service.parent_file(), service.path()));
        self.tags.insert(service.full_name().to_owned(), tag);
    }

    fn finish(self, internal: bool) -> Value {
        let info = self.info;
        let mut schemas = self.schemas.finish();
        schemas.insert(errors::PROBLEM.to_owned(), errors::schema(info));
        let paths: Map<_, _> = self.paths.into_iter().map(|(path, item)| (path, item.into())).collect();
        let mut document = json!({
            "openapi": "3.1.0",
            "info": {"title": info.title, "version": info.version, "description": info.description},
            "tags": self.tags.into_values().collect::<Vec<_>>(),
            "paths": paths,
            "components": {
                "schemas": schemas.into_iter().collect::<Map<_, _>>(),
                "responses": errors::responses(info),
                "securitySchemes": security_schemes(info, internal),
            },
        });
        if !self.omitted.is_empty() {
            document["x-omitted"] = self.omitted.into();
        }
        document
    }
}

fn security_schemes(info: &Info<'_>, internal: bool) -> Value {
    let mut schemes = json!({operation::BEARER: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT",
        "description": "An access token. The scopes of an operation must all be in it."}});
    if let Some(name) = info.query_token {
        schemes[operation::QUERY_TOKEN] = json!({"type": "apiKey", "in": "query", "name": name,
            "description": "The same token, for event streams where headers cannot be set."});
    }
    if internal {
        schemes[operation::SERVICE] = json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "A service's own token, on the internal listener."});
    }
    schemes
}
