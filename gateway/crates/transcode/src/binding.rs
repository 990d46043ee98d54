//! One HTTP binding of a method, checked against the message types it talks about.

use std::sync::Arc;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

use crate::{Codec, LoadError, Method, load, load::HttpRule, query, template::Template};

/// Where each field of a request comes from, and what the answer is.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) method: Arc<Method>,
    pub(crate) verb: http::Method,
    pub(crate) template: Template,
    /// The fields that the template's variables set, in the template's order.
    pub(crate) variables: Vec<Vec<FieldDescriptor>>,
    pub(crate) body: Body,
    pub(crate) response_body: Option<FieldDescriptor>,
    pub(crate) input: MessageDescriptor,
    pub(crate) output: MessageDescriptor,
    /// The same again, compiled.
    pub(crate) compiled: Compiled,
}

/// A binding's types and fields by their places in the plans.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) input: Codec,
    pub(crate) output: Codec,
    /// The field that the body holds, where it holds one.
    pub(crate) body: Option<usize>,
    pub(crate) response_body: Option<usize>,
}

/// What the HTTP body holds.
#[derive(Debug)]
pub(crate) enum Body {
    None,
    Message,
    Field(FieldDescriptor),
}

impl Binding {
    pub(crate) fn new(
        method: &Arc<Method>,
        descriptor: &MethodDescriptor,
        rule: HttpRule,
    ) -> Result<Self, LoadError> {
        Self::check(method, descriptor, rule)
            .map_err(|problem| LoadError::Rule { method: load::named(descriptor), problem })
    }

    fn check(method: &Arc<Method>, descriptor: &MethodDescriptor, rule: HttpRule) -> Result<Self, String> {
        if rule.nested {
            return Err("additional_bindings cannot be nested".to_owned());
        }
        let (kind, path) = rule.pattern.ok_or("the google.api.http rule states no HTTP method")?;
        let verb = http::Method::from_bytes(kind.as_bytes())
            .map_err(|_| format!("{kind:?} is not an HTTP method"))?;
        let (input, output) = (descriptor.input(), descriptor.output());
        let template = Template::parse(&path)?;
        let variables = template.variables.iter().map(|variable| captured(&input, &variable.field_path));
        let variables = variables.collect::<Result<_, _>>();
        let variables = variables.map_err(|problem| format!("path template {path:?}: {problem}"))?;
        let body = match rule.body.as_str() {
            "" => Body::None,
            _ if verb == http::Method::GET || verb == http::Method::HEAD => {
                return Err(format!("{verb} cannot have a body"));
            }
            "*" => Body::Message,
            name => Body::Field(field(&input, name).map_err(|problem| format!("body: {problem}"))?),
        };
        let response_body = match rule.response_body.as_str() {
            "" => None,
            name => Some(field(&output, name).map_err(|problem| format!("response_body: {problem}"))?),
        };
        let compiled = Compiled {
            body: match &body {
                Body::Field(field) => method.input().plan().place(field.number()),
                _ => None,
            },
            response_body: response_body
                .as_ref()
                .and_then(|field| method.output().plan().place(field.number())),
            input: method.input().clone(),
            output: method.output().clone(),
        };
        let method = Arc::clone(method);
        Ok(Self { method, verb, template, variables, body, response_body, input, output, compiled })
    }
}

fn field(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    message.get_field_by_name(name).ok_or_else(|| format!("{} has no field {name}", message.full_name()))
}

/// Resolves a template variable's field path down to a single value that has a text form.
fn captured(input: &MessageDescriptor, path: &[String]) -> Result<Vec<FieldDescriptor>, String> {
    let mut message = input.clone();
    let mut fields: Vec<FieldDescriptor> = vec![];
    for name in path {
        if let Some(parent) = fields.last() {
            let Kind::Message(inner) = parent.kind() else {
                return Err(format!("{} is not a message", parent.name()));
            };
            message = inner;
        }
        let field = field(&message, name)?;
        if field.is_list() || field.is_map() {
            return Err(format!("{name} is repeated and cannot be in a path"));
        }
        fields.push(field);
    }
    match fields.last() {
        Some(last) if !query::has_text_form(&last.kind()) => {
            Err(format!("{} is a message and cannot be in a path", last.name()))
        }
        _ => Ok(fields),
    }
}
