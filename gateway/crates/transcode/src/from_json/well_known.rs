//! The messages whose JSON form is their own.

use super::{Parser, Syntax, Unknown, scalar, scan::Scanner};
use crate::{
    field_mask,
    plan::{Form, Kind, MessageId, MessagePlan, Plans},
    time,
    violations::{At, Step},
    wire::{begin, end, put_delimited},
};

impl<'a> Parser<'a> {
    pub(super) fn well_known(
        &mut self,
        id: MessageId,
        plan: &'a MessagePlan,
        at: &At<'_>,
    ) -> Result<(), Syntax> {
        let next = self.scan.value()?;
        match plan.form {
            Form::Timestamp | Form::Duration | Form::FieldMask if next == b'"' => {
                let text = self.scan.string()?;
                if let Err(description) = put_text_form(self.plans, id, &text, false, self.out) {
                    self.violations.add(at.to_string(), description);
                }
                Ok(())
            }
            Form::Wrapper if next != b'n' => match plan.field(1) {
                Some(value) => self.field(value, at).map(drop),
                None => Ok(()),
            },
            Form::Struct if next == b'{' => match plan.field(1) {
                Some(fields) => self.field(fields, at).map(drop),
                None => Ok(()),
            },
            Form::ListValue if next == b'[' => match plan.field(1) {
                Some(values) => self.field(values, at).map(drop),
                None => Ok(()),
            },
            Form::Value => self.value(plan, next, at),
            Form::Any if next == b'{' => self.any(plan, at),
            _ => self.mismatch(&scalar::expected(self.plans, Kind::Message(id)), at),
        }
    }

    /// `google.protobuf.Value`: the member that fits what is there.
    fn value(&mut self, plan: &'a MessagePlan, next: u8, at: &At<'_>) -> Result<(), Syntax> {
        let number = match next {
            b'n' => 1,
            b'"' => 3,
            b't' | b'f' => 4,
            b'{' => 5,
            b'[' => 6,
            _ => 2,
        };
        match plan.field(number) {
            Some(field) => self.field(field, at).map(drop),
            None => self.scan.skip(),
        }
    }

    /// The type may stand anywhere in the object, so it is looked for first.
    fn any(&mut self, plan: &'a MessagePlan, at: &At<'_>) -> Result<(), Syntax> {
        let (Some(type_url_field), Some(value_field)) = (plan.field(1), plan.field(2)) else {
            return self.scan.skip();
        };
        let type_url = match find_type(self.scan.clone())? {
            Found::Type(type_url) => type_url,
            Found::EmptyObject => return self.scan.skip(),
            Found::Nothing => {
                self.violations.add(at.to_string(), "an Any needs a member \"@type\", a string");
                return self.scan.skip();
            }
        };
        let id = type_url.rsplit_once('/').and_then(|(_, name)| self.plans.by_name(name));
        let Some(id) = id else {
            let at = at.child(Step::Field("@type"));
            self.violations.add(at.to_string(), format!("no contract defines the type {type_url:?}"));
            return self.scan.skip();
        };
        put_delimited(&type_url_field.tag, type_url.as_bytes(), self.out);
        self.out.extend_from_slice(value_field.tag.bytes());
        let start = begin(self.out);
        self.scan.take();
        let inner = &self.plans[id];
        if inner.form == Form::Fields {
            self.nested(at, |parser| parser.members(inner, true, at))?;
        } else {
            self.any_value(id, at)?;
        }
        if self.out.len() == start {
            self.out.truncate(start - 1 - value_field.tag.bytes().len());
        } else {
            end(start, self.out);
        }
        Ok(())
    }

    /// `{"@type": …, "value": …}` for a type whose JSON form is no object of its fields.
    fn any_value(&mut self, id: MessageId, at: &At<'_>) -> Result<(), Syntax> {
        let (mut first, mut there) = (true, false);
        while let Some(key) = self.scan.key(first)? {
            first = false;
            let at = at.child(Step::Field(&key));
            match &*key {
                "@type" => self.scan.skip()?,
                "value" if std::mem::replace(&mut there, true) => {
                    self.violations.add(at.to_string(), "is given more than once");
                    self.scan.skip()?;
                }
                "value" => self.message(id, &at)?,
                _ => {
                    if self.unknown == Unknown::Refused {
                        self.violations.add(at.to_string(), "no such field beside \"@type\" and \"value\"");
                    }
                    self.scan.skip()?;
                }
            }
        }
        if !there {
            self.violations.add(at.to_string(), "an Any of this type needs a member \"value\"");
        }
        Ok(())
    }
}

enum Found<'a> {
    Type(std::borrow::Cow<'a, str>),
    EmptyObject,
    Nothing,
}

/// The one member `@type` of the object that comes next; two of them are none.
fn find_type(mut scan: Scanner<'_>) -> Result<Found<'_>, Syntax> {
    scan.take();
    let (mut first, mut found) = (true, Found::EmptyObject);
    while let Some(key) = scan.key(first)? {
        first = false;
        let is_type = key == "@type";
        found = match found {
            Found::Type(_) if is_type => return Ok(Found::Nothing),
            Found::Type(type_url) => Found::Type(type_url),
            _ if is_type && scan.value()? == b'"' => {
                found = Found::Type(scan.string()?);
                continue;
            }
            _ => Found::Nothing,
        };
        scan.skip()?;
    }
    Ok(found)
}

/// Appends the content of a timestamp, duration or field mask from its text. Explicit: also zeros, so that what is
/// appended later overrides what came before.
pub(crate) fn put_text_form(
    plans: &Plans,
    id: MessageId,
    text: &str,
    explicit: bool,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let plan = &plans[id];
    if plan.form == Form::FieldMask {
        let Some(paths) = plan.field(1) else { return Ok(()) };
        for path in text.split(',').filter(|_| !text.is_empty()) {
            out.extend_from_slice(paths.tag.bytes());
            let start = begin(out);
            field_mask::from_json(path, out)
                .ok_or_else(|| format!("expected lowerCamelCase paths with commas, found {text:?}"))?;
            end(start, out);
        }
        return Ok(());
    }
    let parsed =
        if plan.form == Form::Timestamp { time::parse_timestamp(text) } else { time::parse_duration(text) };
    let Some((seconds, nanos)) = parsed else {
        return scalar::mismatch(plans, Kind::Message(id), text);
    };
    for (number, value) in [(1, seconds), (2, nanos.into())] {
        if let Some(field) = plan.field(number).filter(|_| explicit || value != 0) {
            out.extend_from_slice(field.tag.bytes());
            scalar::put_number(field.kind, value.cast_unsigned(), out);
        }
    }
    Ok(())
}
