//! Path captures and query parameters into a message: nested, repeated and enum fields by dotted names.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};

use crate::{
    binding::{Binding, Body},
    json::{Violations, other_of_oneof},
    scalar,
};

/// Sets the fields that the path captured.
pub(crate) fn set_captures(
    message: &mut DynamicMessage,
    binding: &Binding,
    captures: &[String],
    violations: &Violations,
) {
    let variables = binding.variables.iter().zip(&binding.template.variables);
    for ((path, variable), raw) in variables.zip(captures) {
        let name = variable.field_path.join(".");
        let Some(text) = decode(raw, variable.multi) else {
            violations.add(name, "is not valid percent-encoded UTF-8");
            continue;
        };
        set(message, path, &name, &text, violations);
    }
}

/// Sets the fields that the query names. Fields set by the path or the body cannot be set again.
pub(crate) fn set_parameters(
    message: &mut DynamicMessage,
    binding: &Binding,
    query: &str,
    violations: &Violations,
) {
    let mut seen: Vec<Vec<u32>> = vec![];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (decode_form(raw_name), decode_form(raw_value)) else {
            violations.add(raw_name, "is not valid percent-encoded UTF-8");
            continue;
        };
        match resolve(&binding.input, &name).and_then(|path| taken(binding, &path).map(|()| path)) {
            Err(description) => violations.add(name, description),
            Ok(path) => {
                let numbers: Vec<u32> = path.iter().map(FieldDescriptor::number).collect();
                let is_list = path.last().is_some_and(FieldDescriptor::is_list);
                if !is_list && seen.contains(&numbers) {
                    violations.add(name, "is given more than once");
                    continue;
                }
                seen.push(numbers);
                set(message, &path, &name, &value, violations);
            }
        }
    }
}

/// Whether the path or the body sets this field already.
fn taken(binding: &Binding, path: &[FieldDescriptor]) -> Result<(), String> {
    match &binding.body {
        Body::Message => {
            return Err("is not a query parameter: all fields are in the body or the path".to_owned());
        }
        Body::Field(field) if path.first() == Some(field) => return Err("is set by the body".to_owned()),
        _ => {}
    }
    if binding.variables.iter().any(|variable| variable == path) {
        return Err("is set by the path".to_owned());
    }
    Ok(())
}

/// Finds the field that a dotted name means; each part may be the field's JSON name or its own.
fn resolve(input: &MessageDescriptor, name: &str) -> Result<Vec<FieldDescriptor>, String> {
    let mut message = input.clone();
    let mut path: Vec<FieldDescriptor> = vec![];
    for part in name.split('.') {
        if let Some(parent) = path.last() {
            match parent.kind() {
                Kind::Message(inner) if !parent.is_list() && !parent.is_map() => message = inner,
                _ => return Err(format!("{} has no fields that a query can set", parent.name())),
            }
        }
        let field = message.get_field_by_json_name(part).or_else(|| message.get_field_by_name(part));
        path.push(field.ok_or_else(|| format!("no such field in {}", message.full_name()))?);
    }
    match path.last() {
        Some(last) if last.is_map() || !scalar::has_text_form(&last.kind()) => {
            Err("cannot be given as a query parameter; name one of its fields".to_owned())
        }
        _ => Ok(path),
    }
}

fn set(
    message: &mut DynamicMessage,
    path: &[FieldDescriptor],
    name: &str,
    text: &str,
    violations: &Violations,
) {
    let Some((field, parents)) = path.split_last() else { return };
    let value = match scalar::from_text(&field.kind(), text) {
        Ok(value) => value,
        Err(description) => return violations.add(name, description),
    };
    let mut target = message;
    for parent in parents {
        if let Some(other) = other_of_oneof(target, parent) {
            return violations.add(name, format!("cannot be given together with {other}"));
        }
        let Value::Message(inner) = target.get_field_mut(parent) else { return };
        target = inner;
    }
    if let Some(other) = other_of_oneof(target, field) {
        return violations.add(name, format!("cannot be given together with {other}"));
    }
    match target.get_field_mut(field) {
        Value::List(values) if field.is_list() => values.push(value),
        slot => *slot = value,
    }
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
