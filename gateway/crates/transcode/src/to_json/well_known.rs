//! The messages whose JSON form is their own.

use super::{Stop, Writer, text};
use crate::{
    field_mask,
    plan::{FieldPlan, Form, MessagePlan, Shape},
    time,
    wire::Reader,
};

impl<'a> Writer<'a> {
    pub(super) fn well_known(
        &mut self,
        plan: &'a MessagePlan,
        bytes: &[u8],
        depth: usize,
    ) -> Result<(), Stop> {
        match plan.form {
            Form::Timestamp => self.time(plan, bytes, "a Timestamp is out of range", time::timestamp),
            Form::Duration => self.time(plan, bytes, "a Duration is out of range", time::duration),
            Form::Wrapper => match plan.field(1) {
                Some(value) => self.field_or_default(plan, value, bytes, depth),
                None => Err(Stop::Irregular),
            },
            Form::FieldMask => self.field_mask(plan, bytes),
            Form::Struct | Form::ListValue => match plan.field(1) {
                Some(members) => self.only_field(plan, members, bytes, depth),
                None => Err(Stop::Irregular),
            },
            Form::Value => self.value(plan, bytes, depth),
            Form::Any => self.any(plan, bytes, depth),
            Form::Fields => Err(Stop::Irregular),
        }
    }

    /// The two numbers of a timestamp or duration.
    fn time(
        &mut self,
        plan: &MessagePlan,
        bytes: &[u8],
        out_of_range: &'static str,
        write: fn(i64, i32, &mut Vec<u8>) -> Option<()>,
    ) -> Result<(), Stop> {
        let (mut seconds, mut nanos) = (0_i64, 0_i32);
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let tag = reader.tag()?;
            match plan.field(tag >> 3) {
                Some(field) if tag != field.tag.value() => return Err(Stop::Irregular),
                Some(field) if field.number == 1 => seconds = reader.varint()?.cast_signed(),
                Some(_) => nanos = reader.varint()? as i32,
                None => reader.skip(tag, 0)?,
            }
        }
        self.out.push(b'"');
        write(seconds, nanos, self.out).ok_or(Stop::Invalid(out_of_range))?;
        self.out.push(b'"');
        Ok(())
    }

    fn field_or_default(
        &mut self,
        plan: &MessagePlan,
        field: &FieldPlan,
        bytes: &[u8],
        depth: usize,
    ) -> Result<(), Stop> {
        if bytes.is_empty() {
            return self.default_value(field.kind, depth);
        }
        self.only_field(plan, field, bytes, depth)
    }

    /// The value of a message's one field, in its own place in the document.
    fn only_field(
        &mut self,
        plan: &MessagePlan,
        field: &FieldPlan,
        bytes: &[u8],
        depth: usize,
    ) -> Result<(), Stop> {
        let mut reader = Reader::new(bytes);
        let mut there = false;
        while !reader.is_empty() {
            let tag = reader.tag()?;
            if plan.place(tag >> 3).is_none() {
                reader.skip(tag, depth)?;
                continue;
            }
            if std::mem::replace(&mut there, true) {
                return Err(Stop::Irregular);
            }
            match field.shape {
                Shape::One => self.one_alone(field, tag, &mut reader)?,
                Shape::List { .. } => self.list(field, tag, &mut reader, depth).map(drop)?,
                Shape::Map { key } => self.map(field, key, tag, &mut reader, depth).map(drop)?,
            }
        }
        match field.shape {
            _ if there => {}
            Shape::One => self.default_value(field.kind, depth)?,
            Shape::List { .. } => self.out.extend_from_slice(b"[]"),
            Shape::Map { .. } => self.out.extend_from_slice(b"{}"),
        }
        Ok(())
    }

    fn field_mask(&mut self, plan: &MessagePlan, bytes: &[u8]) -> Result<(), Stop> {
        self.out.push(b'"');
        let start = self.out.len();
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let tag = reader.tag()?;
            match plan.field(tag >> 3) {
                None => reader.skip(tag, 0)?,
                Some(paths) if tag != paths.tag.value() => return Err(Stop::Irregular),
                Some(_) => {
                    let path = reader.delimited()?;
                    if self.out.len() > start {
                        self.out.push(b',');
                    }
                    field_mask::to_json(path, self.out)
                        .ok_or(Stop::Invalid("a FieldMask's path has no JSON form"))?;
                }
            }
        }
        self.out.push(b'"');
        Ok(())
    }

    /// `google.protobuf.Value`: exactly one of its kinds.
    fn value(&mut self, plan: &'a MessagePlan, bytes: &[u8], depth: usize) -> Result<(), Stop> {
        let mut reader = Reader::new(bytes);
        let mut there = false;
        while !reader.is_empty() {
            let tag = reader.tag()?;
            let Some(field) = plan.field(tag >> 3) else {
                reader.skip(tag, depth)?;
                continue;
            };
            if tag != field.tag.value() || std::mem::replace(&mut there, true) {
                return Err(Stop::Irregular);
            }
            if field.kind.packable() {
                let raw = reader.number(tag & 7)?;
                if field.number == NUMBER_VALUE && !f64::from_bits(raw).is_finite() {
                    return Err(Stop::Invalid("a Value holds a number that JSON has not"));
                }
                self.number(field.kind, raw)?;
            } else {
                let content = reader.delimited()?;
                self.content_value(field.kind, content, depth)?;
            }
        }
        if !there {
            // Not a legal Value, but what Python and C++ make of one that was never set.
            self.out.extend_from_slice(b"null");
        }
        Ok(())
    }

    /// The message's type first, then its fields, or `value` where its JSON form is no object of fields.
    fn any(&mut self, plan: &MessagePlan, bytes: &[u8], depth: usize) -> Result<(), Stop> {
        let (mut type_url, mut value) = (None, None);
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let tag = reader.tag()?;
            let slot = match plan.field(tag >> 3) {
                None => {
                    reader.skip(tag, depth)?;
                    continue;
                }
                Some(field) if tag != field.tag.value() => return Err(Stop::Irregular),
                Some(field) if field.number == 1 => &mut type_url,
                Some(_) => &mut value,
            };
            if slot.replace(reader.delimited()?).is_some() {
                return Err(Stop::Irregular);
            }
        }
        let value = value.unwrap_or_default();
        let Some(type_url) = type_url.filter(|type_url| !type_url.is_empty()) else {
            if !value.is_empty() {
                return Err(Stop::Invalid("an Any does not say its type"));
            }
            self.out.extend_from_slice(b"{}");
            return Ok(());
        };
        let type_url = std::str::from_utf8(type_url).map_err(|_| Stop::Invalid("a string is not UTF-8"))?;
        let unknown = Stop::Invalid("an Any holds a type that the contracts do not define");
        let id = type_url.rsplit_once('/').and_then(|(_, name)| self.plans.by_name(name)).ok_or(unknown)?;
        let inner = &self.plans[id];
        self.out.extend_from_slice(b"{\"@type\":");
        text::quoted(type_url, self.out);
        if inner.form == Form::Fields {
            if depth >= crate::wire::MAX_DEPTH {
                return Err(Stop::Invalid("it is nested too deep"));
            }
            self.fields(inner, value, depth + 1)?;
        } else {
            self.out.extend_from_slice(b",\"value\":");
            self.message(id, value, depth + 1)?;
        }
        self.out.push(b'}');
        Ok(())
    }
}

/// `google.protobuf.Value.number_value`
const NUMBER_VALUE: u32 = 2;
