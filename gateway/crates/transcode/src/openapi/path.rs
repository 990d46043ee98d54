//! Path templates as OpenAPI paths. There a parameter is one segment, so what a template captures over several
//! segments is spelled out: `{name=notes/*}` becomes `/notes/{name}`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{example, schema::Schemas};
use crate::{
    binding::Binding,
    template::{Segment, Template, Variable},
};

/// What a literal of a path need not escape.
const LITERAL: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'@')
    .remove(b'&');

/// A path with its parameters in their order.
pub(super) struct Path {
    /// With the parameters' names.
    pub(super) text: String,
    /// Without them: two paths that differ in names alone are the same to OpenAPI.
    pub(super) shape: String,
    pub(super) names: Vec<String>,
    pub(super) parameters: Vec<Value>,
}

impl Path {
    pub(super) fn new(binding: &Binding, schemas: &mut Schemas) -> Self {
        let template = &binding.template;
        let mut path = Self { text: String::new(), shape: String::new(), names: vec![], parameters: vec![] };
        for (at, segment) in template.segments.iter().enumerate() {
            path.text.push('/');
            path.shape.push('/');
            match segment {
                Segment::Literal(literal) => {
                    let literal = utf8_percent_encode(literal, LITERAL).to_string();
                    path.text.push_str(&literal);
                    path.shape.push_str(&literal);
                }
                Segment::One | Segment::Rest => path.capture(binding, at, schemas),
            }
        }
        if let Some(verb) = &template.verb {
            let verb = format!(":{}", utf8_percent_encode(verb, LITERAL));
            path.text.push_str(&verb);
            path.shape.push_str(&verb);
        }
        path
    }

    /// Takes the names that another operation gave to the same path; `x-field` keeps what they mean here.
    pub(super) fn rename(&mut self, names: &[String]) {
        for (at, (parameter, name)) in self.parameters.iter_mut().zip(names).enumerate() {
            if self.names[at] != *name {
                parameter["x-field"] = self.names[at].as_str().into();
                parameter["name"] = name.as_str().into();
            }
        }
        self.names = names.to_vec();
    }

    fn capture(&mut self, binding: &Binding, at: usize, schemas: &mut Schemas) {
        let template = &binding.template;
        let variables = template.variables.iter().zip(&binding.variables);
        let variable =
            variables.into_iter().find(|(variable, _)| (variable.start..variable.end).contains(&at));
        let rest = template.segments[at] == Segment::Rest;
        let (name, mut parameter) = match variable {
            Some((variable, fields)) => {
                let name = self.name(template, variable, at);
                let mut parameter = json!({"name": name, "in": "path", "required": true});
                let Some(field) = fields.last() else { return };
                let whole = variable.end - variable.start == 1;
                let mut schema = schemas.field(field);
                if let Some(text) = schema.as_object_mut().and_then(|schema| schema.remove("description")) {
                    parameter["description"] = text;
                }
                parameter["schema"] = if whole { schema } else { json!({"type": "string"}) };
                parameter["example"] = example::single(field);
                if !whole {
                    let pattern = pattern(template, variable);
                    parameter["x-pattern"] = pattern.into();
                    parameter["example"] = "example-1".into();
                }
                (name, parameter)
            }
            None => {
                let name = self.unused("segment".to_owned());
                let schema = json!({"type": "string"});
                let parameter = json!({"name": name, "in": "path", "required": true,
                    "description": "Not read.", "schema": schema, "example": "x"});
                (name, parameter)
            }
        };
        if rest {
            // A parameter of OpenAPI has no slashes; this one may.
            parameter["x-allow-reserved"] = true.into();
        }
        self.text.push_str(&format!("{{{name}}}"));
        self.shape.push_str("{}");
        self.names.push(name);
        self.parameters.push(parameter);
    }

    /// The field's name; numbered where one variable captures several segments that vary.
    fn name(&self, template: &Template, variable: &Variable, at: usize) -> String {
        let name = variable.field_path.join(".");
        let varies = |segment: &&Segment| !matches!(segment, Segment::Literal(_));
        let count = template.segments[variable.start..variable.end].iter().filter(varies).count();
        let index = template.segments[variable.start..at].iter().filter(varies).count() + 1;
        self.unused(if count > 1 { format!("{name}_{index}") } else { name })
    }

    fn unused(&self, name: String) -> String {
        let mut candidate = name.clone();
        let mut number = 2;
        while self.names.contains(&candidate) {
            candidate = format!("{name}_{number}");
            number += 1;
        }
        candidate
    }
}

fn pattern(template: &Template, variable: &Variable) -> String {
    let segments = template.segments[variable.start..variable.end].iter().map(|segment| match segment {
        Segment::Literal(literal) => literal.as_str(),
        Segment::One => "*",
        Segment::Rest => "**",
    });
    format!("{{{}={}}}", variable.field_path.join("."), segments.collect::<Vec<_>>().join("/"))
}
