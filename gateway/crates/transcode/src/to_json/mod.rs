//! Wire bytes to JSON in one pass, by a message's plan.
//!
//! One pass can write a message only if each field's values stand together. What is otherwise (a singular field given
//! twice, a repeated field in two places, two members of a oneof) is legal and rare: it goes through a dynamic message,
//! which merges, and then through the same pass. Format: protobuf.dev/programming-guides/json.

mod map;
pub(crate) mod text;
mod well_known;

use prost::Message as _;
use prost_reflect::DynamicMessage;

use crate::{
    plan::{FieldPlan, Form, Kind, MessageId, MessagePlan, Plans, Shape, wire_type},
    wire::{MAX_DEPTH, Malformed, Reader},
};

/// Why the pass stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The bytes may be a message, but not in the order that one pass can follow.
    Irregular,
    /// They are none, or it has no JSON form.
    Invalid(&'static str),
}

impl From<Malformed> for Stop {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Invalid(what)
    }
}

/// Appends a message, or one field's value alone, whether it is there or not. On failure `out` is as it was.
pub(crate) fn append(
    plans: &Plans,
    message: MessageId,
    field: Option<&FieldPlan>,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let start = out.len();
    let mut write = |bytes: &[u8], merged: bool| {
        let mut writer = Writer { plans, out, merged, keys: vec![] };
        let written = match field {
            None => writer.message(message, bytes, 0),
            Some(field) => writer.field_alone(&plans[message], field, bytes),
        };
        written.inspect_err(|_| out.truncate(start))
    };
    match write(bytes, false) {
        Ok(()) => Ok(()),
        Err(Stop::Invalid(what)) => Err(what.to_owned()),
        Err(Stop::Irregular) => {
            let merged = DynamicMessage::decode(plans[message].descriptor.clone(), bytes);
            let merged = merged.map_err(|error| error.to_string())?.encode_to_vec();
            write(&merged, true).map_err(|stop| match stop {
                Stop::Invalid(what) => what.to_owned(),
                Stop::Irregular => "its fields contradict the contract".to_owned(),
            })
        }
    }
}

struct Writer<'a> {
    plans: &'a Plans,
    out: &'a mut Vec<u8>,
    /// The bytes come from a dynamic message, whose maps have no key twice.
    merged: bool,
    /// Hashes of the keys of the maps being written, the innermost last.
    keys: Vec<u64>,
}

impl<'a> Writer<'a> {
    fn message(&mut self, id: MessageId, bytes: &[u8], depth: usize) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::Invalid("it is nested too deep"));
        }
        let plan = &self.plans[id];
        if plan.form != Form::Fields {
            return self.well_known(plan, bytes, depth);
        }
        let start = self.out.len();
        self.fields(plan, bytes, depth)?;
        self.close(start, b'{', b'}');
        Ok(())
    }

    /// Every member is written with a comma before it; here the first comma becomes the opening bracket.
    #[inline]
    fn close(&mut self, start: usize, opening: u8, closing: u8) {
        match self.out.get_mut(start) {
            Some(comma) => *comma = opening,
            None => self.out.push(opening),
        }
        self.out.push(closing);
    }

    /// Writes the fields as members, each with a comma before it.
    fn fields(&mut self, plan: &'a MessagePlan, bytes: &[u8], depth: usize) -> Result<(), Stop> {
        let mut seen = plan.nothing_seen();
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let tag = reader.tag()?;
            let Some(place) = plan.place(tag >> 3) else {
                reader.skip(tag, depth)?;
                continue;
            };
            let field = &plan.fields[place];
            if seen.insert(place) {
                return Err(Stop::Irregular);
            }
            if let Some(oneof) = field.oneof
                && seen.insert(plan.fields.len() + usize::from(oneof))
            {
                return Err(Stop::Irregular);
            }
            match field.shape {
                Shape::One => self.one(field, tag, &mut reader, depth)?,
                Shape::List { .. } => {
                    let before = self.out.len();
                    self.out.extend_from_slice(&field.key);
                    if !self.list(field, tag, &mut reader, depth)? {
                        self.out.truncate(before);
                    }
                }
                Shape::Map { key } => {
                    let before = self.out.len();
                    self.out.extend_from_slice(&field.key);
                    if !self.map(field, key, tag, &mut reader, depth)? {
                        self.out.truncate(before);
                    }
                }
            }
        }
        Ok(())
    }

    /// A single value, unless it says no more than its absence.
    #[inline]
    fn one(
        &mut self,
        field: &FieldPlan,
        tag: u32,
        reader: &mut Reader<'_>,
        depth: usize,
    ) -> Result<(), Stop> {
        if tag != field.tag.value() {
            return Err(Stop::Irregular);
        }
        if field.kind.packable() {
            let raw = reader.number(tag & 7)?;
            if (!field.presence && field.kind.is_default(raw)) || self.is_unknown(field.kind, raw) {
                return Ok(());
            }
            self.out.extend_from_slice(&field.key);
            return self.number(field.kind, raw);
        }
        let bytes = Self::content(field, reader, depth)?;
        if !field.presence && bytes.is_empty() {
            return Ok(());
        }
        self.out.extend_from_slice(&field.key);
        self.content_value(field.kind, bytes, depth)
    }

    #[inline]
    fn content<'r>(field: &FieldPlan, reader: &mut Reader<'r>, depth: usize) -> Result<&'r [u8], Malformed> {
        match field.kind {
            Kind::Group(_) => reader.group(field.number, depth),
            _ => reader.delimited(),
        }
    }

    /// A number of a closed enum that has no name is no value.
    #[inline]
    fn is_unknown(&self, kind: Kind, raw: u64) -> bool {
        match kind {
            Kind::Enum(id) => {
                let plan = self.plans.enumeration(id);
                plan.closed && plan.quoted(raw as i32).is_none()
            }
            _ => false,
        }
    }

    #[inline]
    fn content_value(&mut self, kind: Kind, bytes: &[u8], depth: usize) -> Result<(), Stop> {
        match kind {
            Kind::String => text::string(bytes, self.out),
            Kind::Bytes => {
                text::base64(bytes, self.out);
                Ok(())
            }
            Kind::Message(id) | Kind::Group(id) => self.message(id, bytes, depth + 1),
            _ => Err(Stop::Irregular),
        }
    }

    /// A list's elements up to the first field of another number. False: there was none.
    fn list(
        &mut self,
        field: &FieldPlan,
        first: u32,
        reader: &mut Reader<'_>,
        depth: usize,
    ) -> Result<bool, Stop> {
        let start = self.out.len();
        let element = field.number << 3 | field.kind.wire_type();
        let packed = field.number << 3 | wire_type::DELIMITED;
        let packable = field.kind.packable();
        let mut next = Some(first);
        while let Some(tag) = next {
            if tag == element && !packable {
                let bytes = Self::content(field, reader, depth)?;
                self.out.push(b',');
                self.content_value(field.kind, bytes, depth)?;
            } else if tag == element {
                let raw = reader.number(tag & 7)?;
                self.element(field.kind, raw)?;
            } else if tag == packed && packable {
                self.packed(field.kind, reader.delimited()?)?;
            } else {
                return Err(Stop::Irregular);
            }
            next = reader.tag_if(|tag| tag >> 3 == field.number);
        }
        let some = self.out.len() > start;
        self.close(start, b'[', b']');
        Ok(some)
    }

    /// Numbers side by side. The most frequent kinds have a loop of their own, which knows the kind.
    fn packed(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), Stop> {
        let mut elements = Reader::new(bytes);
        let out = &mut *self.out;
        match kind {
            Kind::Double => {
                each(&mut elements, out, Reader::fixed64, |raw, out| text::double(f64::from_bits(raw), out))
            }
            Kind::Float => {
                each(&mut elements, out, Reader::fixed32, |raw, out| text::float(f32::from_bits(raw), out))
            }
            Kind::Int32 => {
                each(&mut elements, out, Reader::varint, |raw, out| text::integer(raw as i32, out))
            }
            Kind::Uint32 => {
                each(&mut elements, out, Reader::varint, |raw, out| text::integer(raw as u32, out))
            }
            _ => {
                let wire_type = kind.wire_type();
                while !elements.is_empty() {
                    let raw = elements.number(wire_type)?;
                    self.element(kind, raw)?;
                }
                return Ok(());
            }
        }?;
        Ok(())
    }

    #[inline]
    fn element(&mut self, kind: Kind, raw: u64) -> Result<(), Stop> {
        if self.is_unknown(kind, raw) {
            return Ok(());
        }
        self.out.push(b',');
        self.number(kind, raw)
    }

    /// A number of any kind, from what was on the wire.
    #[inline]
    fn number(&mut self, kind: Kind, raw: u64) -> Result<(), Stop> {
        let out = &mut *self.out;
        match kind {
            Kind::Double => text::double(f64::from_bits(raw), out),
            Kind::Float => text::float(f32::from_bits(raw as u32), out),
            // 64-bit integers are strings, since JavaScript's numbers end at 2^53.
            Kind::Int64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 | Kind::Sint64 => {
                out.push(b'"');
                text::integer_of(kind, raw, out);
                out.push(b'"');
            }
            Kind::Bool => out.extend_from_slice(if raw == 0 { b"false" } else { b"true" }),
            Kind::Enum(id) => {
                let plan = self.plans.enumeration(id);
                match plan.quoted(raw as i32) {
                    _ if plan.is_null => out.extend_from_slice(b"null"),
                    Some(name) => out.extend_from_slice(name.as_bytes()),
                    None => text::integer(raw as i32, out),
                }
            }
            Kind::String | Kind::Bytes | Kind::Message(_) | Kind::Group(_) => return Err(Stop::Irregular),
            _ => text::integer_of(kind, raw, out),
        }
        Ok(())
    }

    /// What a value looks like that is not there.
    fn default_value(&mut self, kind: Kind, depth: usize) -> Result<(), Stop> {
        if kind.packable() { self.number(kind, 0) } else { self.content_value(kind, b"", depth) }
    }

    /// One field's value as the whole document: its default, `null`, `[]` or `{}` where it is absent.
    fn field_alone(&mut self, plan: &MessagePlan, field: &FieldPlan, bytes: &[u8]) -> Result<(), Stop> {
        let mut reader = Reader::new(bytes);
        let start = self.out.len();
        let mut there = false;
        while !reader.is_empty() {
            let tag = reader.tag()?;
            if tag >> 3 != field.number {
                let other = plan.field(tag >> 3);
                if there && field.oneof.is_some() && other.is_some_and(|other| other.oneof == field.oneof) {
                    return Err(Stop::Irregular);
                }
                reader.skip(tag, 0)?;
                continue;
            }
            if there {
                return Err(Stop::Irregular);
            }
            there = true;
            match field.shape {
                Shape::One => self.one_alone(field, tag, &mut reader)?,
                Shape::List { .. } => self.list(field, tag, &mut reader, 0).map(drop)?,
                Shape::Map { key } => self.map(field, key, tag, &mut reader, 0).map(drop)?,
            }
        }
        if self.out.len() == start {
            match field.shape {
                Shape::One if field.presence => self.out.extend_from_slice(b"null"),
                Shape::One => self.default_value(field.kind, 0)?,
                Shape::List { .. } => self.out.extend_from_slice(b"[]"),
                Shape::Map { .. } => self.out.extend_from_slice(b"{}"),
            }
        }
        Ok(())
    }

    fn one_alone(&mut self, field: &FieldPlan, tag: u32, reader: &mut Reader<'_>) -> Result<(), Stop> {
        if tag != field.tag.value() {
            return Err(Stop::Irregular);
        }
        if field.kind.packable() {
            let raw = reader.number(tag & 7)?;
            return if self.is_unknown(field.kind, raw) { Ok(()) } else { self.number(field.kind, raw) };
        }
        let bytes = Self::content(field, reader, 0)?;
        self.content_value(field.kind, bytes, 0)
    }
}

#[inline]
fn each<'r, T>(
    elements: &mut Reader<'r>,
    out: &mut Vec<u8>,
    read: impl Fn(&mut Reader<'r>) -> Result<T, Malformed>,
    write: impl Fn(T, &mut Vec<u8>),
) -> Result<(), Malformed> {
    while !elements.is_empty() {
        out.push(b',');
        write(read(elements)?, out);
    }
    Ok(())
}
