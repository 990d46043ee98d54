//! Path captures and query parameters into a message: nested, repeated and enum fields by dotted names.
//!
//! They are appended to what the body gave. Protobuf merges what is appended: a later single value counts, nested
//! messages are joined, repeated ones grow. So the path wins over the body with no message object in between.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use prost_reflect::{FieldDescriptor, Kind as Described};

use crate::{
    Unknown,
    binding::{Binding, Body},
    from_json::{scalar, well_known::put_text_form},
    plan::{FieldPlan, Form, Kind, Plans, Shape},
    violations::Violations,
    wire::{MAX_DEPTH, begin, end, put_delimited},
};

/// Appends path captures and query parameters to a message.
pub(crate) struct Parameters<'a> {
    binding: &'a Binding,
    violations: &'a Violations,
    out: &'a mut Vec<u8>,
    /// What has been set, as paths of fields.
    set: Vec<Vec<&'a FieldPlan>>,
}

impl<'a> Parameters<'a> {
    pub(crate) fn new(binding: &'a Binding, violations: &'a Violations, out: &'a mut Vec<u8>) -> Self {
        Self { binding, violations, out, set: vec![] }
    }

    fn plans(&self) -> &'a Plans {
        self.binding.compiled.input.plans()
    }

    /// The body has set this field.
    pub(crate) fn body_field(&mut self, field: &'a FieldPlan) {
        self.set.push(vec![field]);
    }

    /// Sets the fields that the path captured.
    pub(crate) fn captures(&mut self, captures: &[String]) {
        let variables = self.binding.template.variables.iter();
        for (variable, raw) in variables.zip(captures) {
            let name = variable.field_path.join(".");
            let Some(text) = decode(raw, variable.multi) else {
                self.violations.add(name, "is not valid percent-encoded UTF-8");
                continue;
            };
            match self.resolve(&name) {
                Ok(path) => self.append(path, &name, &text),
                Err(unresolved) => self.violations.add(name, unresolved),
            }
        }
    }

    /// Sets the fields that the query names. Fields set by the path or the body cannot be set again.
    pub(crate) fn query(&mut self, query: &str) {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode_form(raw_name), decode_form(raw_value)) else {
                self.violations.add(raw_name, "is not valid percent-encoded UTF-8");
                continue;
            };
            let path = match self.resolve(&name) {
                Ok(path) if path.last().is_some_and(|field| self.passes_over(field, &value)) => continue,
                Err(Unresolved::Unknown(_)) if self.plans().unknown() == Unknown::Ignored => continue,
                resolved => resolved.map_err(String::from),
            };
            match path.and_then(|path| self.taken(&path).map(|()| path)) {
                Ok(path) => self.append(path, &name, &value),
                Err(description) => self.violations.add(name, description),
            }
        }
    }

    /// Whether the path, the body or an earlier parameter sets this field already.
    fn taken(&self, path: &[&FieldPlan]) -> Result<(), String> {
        match &self.binding.body {
            Body::Message => {
                return Err("is not a query parameter: all fields are in the body or the path".to_owned());
            }
            Body::Field(field) if path.first().is_some_and(|first| first.number == field.number()) => {
                return Err("is set by the body".to_owned());
            }
            _ => {}
        }
        let captured = |variable: &Vec<FieldDescriptor>| {
            variable.len() == path.len() && variable.iter().zip(path).all(|(a, b)| a.number() == b.number)
        };
        if self.binding.variables.iter().any(captured) {
            return Err("is set by the path".to_owned());
        }
        let is_list = path.last().is_some_and(|last| matches!(last.shape, Shape::List { .. }));
        if !is_list && self.set.iter().any(|other| same(other, path)) {
            return Err("is given more than once".to_owned());
        }
        Ok(())
    }

    /// Finds the field that a dotted name means; each part may be the field's JSON name or its own.
    fn resolve(&self, name: &str) -> Result<Vec<&'a FieldPlan>, Unresolved> {
        let plans = self.plans();
        let mut message = self.binding.compiled.input.id();
        let mut path: Vec<&FieldPlan> = vec![];
        for part in name.split('.') {
            if let Some(parent) = path.last() {
                match parent.kind {
                    Kind::Message(inner) if parent.shape == Shape::One => message = inner,
                    _ => return Err(format!("{} has no fields that a query can set", parent.name).into()),
                }
            }
            if path.len() >= MAX_DEPTH {
                return Err(format!("is nested deeper than {MAX_DEPTH} levels").into());
            }
            let plan = &plans[message];
            let place = plan.place_of(part);
            let unknown = || format!("no such field in {}", plan.descriptor.full_name());
            let place = place.ok_or_else(|| Unresolved::Unknown(unknown()))?;
            path.push(&plan.fields[place]);
        }
        match path.last() {
            Some(last) if matches!(last.shape, Shape::Map { .. }) || !is_text(plans, last.kind) => {
                Err("cannot be given as a query parameter; name one of its fields".to_owned().into())
            }
            _ => Ok(path),
        }
    }

    /// Whether a value is the unknown name of an enum's, and those are ignored.
    fn passes_over(&self, field: &FieldPlan, text: &str) -> bool {
        let Kind::Enum(id) = field.kind else { return false };
        self.plans().unknown() == Unknown::Ignored
            && self.plans().enumeration(id).number(text).is_none()
            && text.parse::<i32>().is_err()
    }

    fn append(&mut self, path: Vec<&'a FieldPlan>, name: &str, text: &str) {
        let Some((field, parents)) = path.split_last() else { return };
        if let Some(other) = self.set.iter().find_map(|other| rival(other, &path)) {
            return self.violations.add(name, format!("cannot be given together with {}", other.json_name));
        }
        let mut open = Vec::with_capacity(parents.len());
        for parent in parents {
            self.out.extend_from_slice(parent.tag.bytes());
            open.push(begin(self.out));
        }
        if let Err(description) = put(self.plans(), field, text, self.out) {
            self.violations.add(name, description);
        }
        for start in open.into_iter().rev() {
            end(start, self.out);
        }
        self.set.push(path);
    }
}

/// Why a name means no field.
enum Unresolved {
    /// No message has it.
    Unknown(String),
    /// It is there, and cannot be set so.
    Unfit(String),
}

impl From<String> for Unresolved {
    fn from(description: String) -> Self {
        Self::Unfit(description)
    }
}

impl From<Unresolved> for String {
    fn from(unresolved: Unresolved) -> Self {
        match unresolved {
            Unresolved::Unknown(description) | Unresolved::Unfit(description) => description,
        }
    }
}

fn same(a: &[&FieldPlan], b: &[&FieldPlan]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.number == b.number)
}

/// The field of an earlier path that is in one oneof with a field of this one.
fn rival<'a>(earlier: &[&'a FieldPlan], path: &[&FieldPlan]) -> Option<&'a FieldPlan> {
    let (theirs, ours) = earlier.iter().zip(path).find(|(theirs, ours)| theirs.number != ours.number)?;
    (theirs.oneof.is_some() && theirs.oneof == ours.oneof).then_some(theirs)
}

/// Appends a field with its value from text; a default, too, since it may override what came before.
fn put(plans: &Plans, field: &FieldPlan, text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let packed = matches!(field.shape, Shape::List { packed: true }) && field.kind.packable();
    out.extend_from_slice(field.tag.bytes());
    match field.kind {
        Kind::String => {
            out.truncate(out.len() - field.tag.bytes().len());
            put_delimited(&field.tag, text.as_bytes(), out);
        }
        Kind::Bytes => {
            let start = begin(out);
            if !scalar::put_base64(text, out) {
                return scalar::mismatch(plans, field.kind, text);
            }
            end(start, out);
        }
        Kind::Message(id) => {
            let start = begin(out);
            match (plans[id].form, plans[id].field(1)) {
                (Form::Wrapper, Some(value)) => put(plans, value, text, out)?,
                _ => put_text_form(plans, id, text, true, out)?,
            }
            end(start, out);
        }
        kind => {
            let raw = scalar::number_from_text(plans, kind, text)?;
            let start = packed.then(|| begin(out));
            scalar::put_number(kind, raw, out);
            if let Some(start) = start {
                end(start, out);
            }
        }
    }
    Ok(())
}

/// Whether a single text can stand for a value of this kind, as in a path or query.
fn is_text(plans: &Plans, kind: Kind) -> bool {
    match kind {
        Kind::Message(id) => {
            matches!(plans[id].form, Form::Duration | Form::FieldMask | Form::Timestamp | Form::Wrapper)
        }
        kind => !matches!(kind, Kind::Group(_)),
    }
}

/// The same of a descriptor, for contracts that are being loaded.
pub(crate) fn has_text_form(kind: &Described) -> bool {
    let Described::Message(message) = kind else { return true };
    message.package_name() == "google.protobuf"
        && (matches!(message.name(), "Duration" | "FieldMask" | "Timestamp")
            || (message.name().ends_with("Value") && !matches!(message.name(), "Value" | "ListValue")))
}

/// Decodes a capture. Where more than one segment may be captured, `%2F` stays, to tell it from a separator.
fn decode(raw: &str, multi: bool) -> Option<Cow<'_, str>> {
    if !well_formed(raw) {
        return None;
    }
    if !multi || !raw.contains('%') {
        return percent_decode_str(raw).decode_utf8().ok();
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find("%2F").into_iter().chain(rest.find("%2f")).min() {
        text.push_str(&percent_decode_str(&rest[..at]).decode_utf8().ok()?);
        text.push_str(&rest[at..at + 3]);
        rest = &rest[at + 3..];
    }
    text.push_str(&percent_decode_str(rest).decode_utf8().ok()?);
    Some(Cow::Owned(text))
}

fn decode_form(raw: &str) -> Option<String> {
    let spaced = raw.replace('+', " ");
    if !well_formed(&spaced) {
        return None;
    }
    percent_decode_str(&spaced).decode_utf8().ok().map(Cow::into_owned)
}

/// Every `%` is followed by two hexadecimal digits.
fn well_formed(raw: &str) -> bool {
    let bytes = raw.as_bytes();
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(at, _)| {
        bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_of_several_segments_keep_encoded_slashes() {
        for (raw, multi, expected) in [
            ("a%2Fb%20c", false, Some("a/b c")),
            ("a%2Fb%20c", true, Some("a%2Fb c")),
            ("x/%e4%bd%a0%2f", true, Some("x/你%2f")),
            ("plain", true, Some("plain")),
            ("a+b", false, Some("a+b")),
            ("%zz", false, None),
            ("%2", true, None),
            ("%ff", false, None),
        ] {
            assert_eq!(decode(raw, multi).as_deref(), expected, "{raw}");
        }
    }
}
