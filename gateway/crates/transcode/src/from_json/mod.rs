//! JSON to wire bytes in one pass, by a message's plan: what is read is written at once, each length afterwards.
//!
//! Strict: unknown fields, wrong types, duplicate keys and two members of a oneof are violations, each with its place;
//! reading goes on behind one, so that a person sees all of them. Format: protobuf.dev/programming-guides/json.

pub(crate) mod scalar;
pub(crate) mod scan;
pub(crate) mod well_known;

use std::borrow::Cow;

use scan::{Scanner, Syntax};

use crate::{
    TranscodeError,
    plan::{FieldPlan, Form, Kind, MessageId, MessagePlan, Plans, Seen, Shape, Tag, wire_type},
    violations::{At, Step, Violations},
    wire::{MAX_DEPTH, begin, end, put_delimited},
};

/// Appends a document as a message.
pub(crate) fn message(
    plans: &Plans,
    message: MessageId,
    json: &[u8],
    unknown: Unknown,
    violations: &Violations,
    out: &mut Vec<u8>,
) -> Result<(), TranscodeError> {
    let mut parser = Parser::new(plans, json, unknown, violations, out)?;
    let read = parser.root(|parser| parser.message(message, &At::ROOT));
    read.map_err(|syntax| syntax.in_text(json))
}

/// Appends a document as the value of a field.
pub(crate) fn field(
    plans: &Plans,
    field: &FieldPlan,
    json: &[u8],
    unknown: Unknown,
    violations: &Violations,
    out: &mut Vec<u8>,
) -> Result<(), TranscodeError> {
    let mut parser = Parser::new(plans, json, unknown, violations, out)?;
    parser.depth = 1;
    let at = At::ROOT.child(Step::Field(&field.name));
    let read = parser.root(|parser| parser.field(field, &at).map(drop));
    read.map_err(|syntax| syntax.in_text(json))
}

/// What fields, that the contract does not know, are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unknown {
    /// Violations: a misspelt field is found by the one who can mend it.
    #[default]
    Refused,
    /// Passed over, as are unknown names of enum values: for clients that are newer than the contract.
    Ignored,
}

struct Parser<'a> {
    plans: &'a Plans,
    scan: Scanner<'a>,
    unknown: Unknown,
    violations: &'a Violations,
    out: &'a mut Vec<u8>,
    /// Where the keys of the maps being read are, in `out` and in the text; the innermost map's last.
    keys: Vec<MapKey>,
    /// Messages around the one being read. Those of the wire count: a list in a `Value` is two of them.
    depth: usize,
}

#[derive(Clone, Copy)]
struct MapKey {
    start: usize,
    end: usize,
    source: usize,
}

impl<'a> Parser<'a> {
    fn new(
        plans: &'a Plans,
        json: &'a [u8],
        unknown: Unknown,
        violations: &'a Violations,
        out: &'a mut Vec<u8>,
    ) -> Result<Self, TranscodeError> {
        let text =
            std::str::from_utf8(json).map_err(|error| Syntax::not_utf8(error.valid_up_to()).in_text(json))?;
        Ok(Self { plans, scan: Scanner::new(text), unknown, violations, out, keys: vec![], depth: 0 })
    }

    fn root(&mut self, read: impl FnOnce(&mut Self) -> Result<(), Syntax>) -> Result<(), Syntax> {
        read(self)?;
        self.scan.end()
    }

    /// A message's content; what delimits it is the caller's.
    fn message(&mut self, id: MessageId, at: &At<'_>) -> Result<(), Syntax> {
        let plan = &self.plans[id];
        self.nested(at, |parser| match plan.form {
            Form::Fields if parser.scan.value()? == b'{' => {
                parser.scan.take();
                parser.members(plan, false, at)
            }
            Form::Fields => parser.mismatch("an object", at),
            _ => parser.well_known(id, plan, at),
        })
    }

    /// Reads a message in a message: what is read must be no deeper than what readers of the wire take.
    fn nested(
        &mut self,
        at: &At<'_>,
        read: impl FnOnce(&mut Self) -> Result<(), Syntax>,
    ) -> Result<(), Syntax> {
        if self.depth > MAX_DEPTH {
            self.violations.add(at.to_string(), format!("is nested deeper than {MAX_DEPTH} levels"));
            return self.scan.skip();
        }
        self.depth += 1;
        read(self)?;
        self.depth -= 1;
        Ok(())
    }

    /// An object's members; its opening bracket has been taken. In an `Any`, `@type` is no field.
    fn members(&mut self, plan: &'a MessagePlan, in_any: bool, at: &At<'_>) -> Result<(), Syntax> {
        let mut seen = plan.nothing_seen();
        let (mut first, mut guess) = (true, 0);
        while let Some(key) = self.scan.key(first)? {
            first = false;
            // Most documents have their fields in the contract's order.
            let guessed = plan.fields.get(guess).filter(|field| *field.json_name == *key).map(|_| guess);
            let Some(place) = guessed.or_else(|| plan.place_of(&key)) else {
                self.unknown_member(plan, &key, in_any, at)?;
                continue;
            };
            guess = place + 1;
            let at = at.child(Step::Field(&key));
            if seen.insert(place) {
                self.violations.add(at.to_string(), "is given more than once");
                self.scan.skip()?;
                continue;
            }
            let field = &plan.fields[place];
            if self.field(field, &at)?
                && let Some(oneof) = field.oneof
                && seen.insert(plan.fields.len() + usize::from(oneof))
            {
                self.two_of_a_oneof(plan, field, &seen, &at);
            }
        }
        Ok(())
    }

    #[cold]
    fn unknown_member(
        &mut self,
        plan: &MessagePlan,
        key: &str,
        in_any: bool,
        at: &At<'_>,
    ) -> Result<(), Syntax> {
        if !(in_any && key == "@type") && self.unknown == Unknown::Refused {
            let name = plan.descriptor.full_name();
            self.violations.add(at.child(Step::Field(key)).to_string(), format!("no such field in {name}"));
        }
        self.scan.skip()
    }

    #[cold]
    fn two_of_a_oneof(&self, plan: &MessagePlan, field: &FieldPlan, seen: &Seen, at: &At<'_>) {
        let mut others = plan.fields.iter().enumerate().filter(|(place, other)| {
            other.oneof == field.oneof && other.number != field.number && seen.contains(*place)
        });
        let other = others.next().map_or("", |(_, other)| &other.json_name);
        self.violations.add(at.to_string(), format!("cannot be given together with {other}"));
    }

    /// A field's value with its keys. False: it is `null`, which is no value.
    fn field(&mut self, field: &'a FieldPlan, at: &At<'_>) -> Result<bool, Syntax> {
        let next = self.scan.value()?;
        if next == b'n' && !(field.shape == Shape::One && self.takes_null(field.kind)) {
            return self.scan.literal("null").map(|()| false);
        }
        match field.shape {
            Shape::One if field.kind.packable() => {
                if let Some(raw) = self.number(field.kind, at)?
                    && (field.presence || !field.kind.is_default(raw))
                {
                    self.out.extend_from_slice(field.tag.bytes());
                    scalar::put_number(field.kind, raw, self.out);
                }
            }
            Shape::One => self.content(field.kind, &field.tag, !field.presence, at)?,
            Shape::List { packed } if next == b'[' => self.list(field, packed, at)?,
            Shape::Map { key } if next == b'{' => self.map(field, key, at)?,
            Shape::List { .. } => self.mismatch("an array", at)?,
            Shape::Map { .. } => self.mismatch("an object", at)?,
        }
        Ok(true)
    }

    /// The two types of which `null` is a value.
    fn takes_null(&self, kind: Kind) -> bool {
        match kind {
            Kind::Enum(id) => self.plans.enumeration(id).is_null,
            Kind::Message(id) => self.plans[id].form == Form::Value,
            _ => false,
        }
    }

    fn list(&mut self, field: &'a FieldPlan, packed: bool, at: &At<'_>) -> Result<(), Syntax> {
        self.scan.take();
        let mut start = None;
        let mut index = 0;
        while self.scan.element(index == 0)? {
            let at = at.child(Step::Index(index));
            index += 1;
            if self.scan.value()? == b'n' && !self.takes_null(field.kind) {
                self.mismatch(&scalar::expected(self.plans, field.kind), &at)?;
            } else if !field.kind.packable() {
                self.content(field.kind, &field.tag, false, &at)?;
            } else if let Some(raw) = self.number(field.kind, &at)? {
                if packed && start.is_none() {
                    self.out.extend_from_slice(field.tag.bytes());
                    start = Some(begin(self.out));
                } else if !packed {
                    self.out.extend_from_slice(field.tag.bytes());
                }
                scalar::put_number(field.kind, raw, self.out);
            }
        }
        if let Some(start) = start {
            end(start, self.out);
        }
        Ok(())
    }

    fn map(&mut self, field: &'a FieldPlan, key_kind: Kind, at: &At<'_>) -> Result<(), Syntax> {
        self.scan.take();
        let (key_tag, value_tag) = (Tag::new(1, key_kind.wire_type()), Tag::new(2, field.kind.wire_type()));
        let outer = self.keys.len();
        let mut first = true;
        loop {
            let source = self.scan.position();
            let Some(key) = self.scan.key(first)? else { break };
            first = false;
            let at = at.child(Step::Key(&key));
            let before = self.out.len();
            self.out.extend_from_slice(field.tag.bytes());
            let start = begin(self.out);
            self.map_key(key_kind, &key_tag, &key, &at);
            let key_length = self.out.len() - start;
            if self.scan.value()? == b'n' && !self.takes_null(field.kind) {
                self.mismatch(&scalar::expected(self.plans, field.kind), &at)?;
            } else if !field.kind.packable() {
                self.content(field.kind, &value_tag, false, &at)?;
            } else if let Some(raw) = self.number(field.kind, &at)? {
                self.out.extend_from_slice(value_tag.bytes());
                scalar::put_number(field.kind, raw, self.out);
            } else {
                // A violation, or a name of an enum's value that is passed over: then the entry is, too.
                self.out.truncate(before);
                continue;
            }
            let length = self.out.len() - start;
            end(start, self.out);
            let start = self.out.len() - length;
            self.keys.push(MapKey { start, end: start + key_length, source });
        }
        self.find_twins(outer, at);
        self.keys.truncate(outer);
        Ok(())
    }

    fn map_key(&mut self, kind: Kind, tag: &Tag, key: &str, at: &At<'_>) {
        if kind == Kind::String {
            return put_delimited(tag, key.as_bytes(), self.out);
        }
        match scalar::number_from_text(self.plans, kind, key) {
            Ok(raw) => {
                self.out.extend_from_slice(tag.bytes());
                scalar::put_number(kind, raw, self.out);
            }
            Err(description) => self.violations.add(at.to_string(), format!("key: {description}")),
        }
    }

    /// A key that comes twice, perhaps spelt differently, is a violation, as it is for a field.
    fn find_twins(&mut self, outer: usize, at: &At<'_>) {
        let (out, keys) = (&*self.out, &mut self.keys[outer..]);
        if keys.len() < 2 {
            return;
        }
        keys.sort_unstable_by(|a, b| {
            out[a.start..a.end].cmp(&out[b.start..b.end]).then(a.source.cmp(&b.source))
        });
        for pair in keys.windows(2) {
            if out[pair[0].start..pair[0].end] == out[pair[1].start..pair[1].end] {
                let mut source = self.scan.from(pair[1].source);
                if source.peek() == Some(b',') {
                    source.take();
                }
                source.peek();
                let key = source.string().unwrap_or_default();
                self.violations.add(at.child(Step::Key(&key)).to_string(), "is given more than once");
            }
        }
    }

    /// A number, truth value or enum. None: what is there is a violation.
    #[inline]
    fn number(&mut self, kind: Kind, at: &At<'_>) -> Result<Option<u64>, Syntax> {
        let read = match (self.scan.value()?, kind) {
            (b'-' | b'0'..=b'9', _) => {
                let text = self.scan.number()?;
                scalar::number_from_json(self.plans, kind, text).map(Some)
            }
            // A number in quotes names no value of an enum.
            (b'"', Kind::Enum(id)) => {
                let name = self.scan.string()?;
                self.enum_value(id, &name)
            }
            (b'"', kind) if kind != Kind::Bool => {
                let text = self.scan.string()?;
                scalar::number_from_text(self.plans, kind, &text).map(Some)
            }
            (b't', Kind::Bool) => self.scan.literal("true").map(|()| Ok(Some(1)))?,
            (b'f', Kind::Bool) => self.scan.literal("false").map(|()| Ok(Some(0)))?,
            (b'n', _) if self.takes_null(kind) => self.scan.literal("null").map(|()| Ok(Some(0)))?,
            _ => {
                let expected = scalar::expected(self.plans, kind);
                return self.mismatch(&expected, at).map(|()| None);
            }
        };
        Ok(read.unwrap_or_else(|description| {
            self.violations.add(at.to_string(), description);
            None
        }))
    }

    /// An enum's value by its name. `Ok(None)`: unknown, and passed over.
    fn enum_value(&self, id: crate::plan::EnumId, name: &str) -> Result<Option<u64>, String> {
        let plan = self.plans.enumeration(id);
        match plan.number(name) {
            Some(number) => Ok(Some(i64::from(number).cast_unsigned())),
            None if self.unknown == Unknown::Ignored => Ok(None),
            None => Err(format!("expected one of {}, found {name:?}", plan.names())),
        }
    }

    /// A string, bytes or message with its key; an empty one is left out if that says the same.
    fn content(&mut self, kind: Kind, tag: &Tag, skip_empty: bool, at: &At<'_>) -> Result<(), Syntax> {
        match kind {
            Kind::Message(id) => {
                self.out.extend_from_slice(tag.bytes());
                let start = begin(self.out);
                self.message(id, at)?;
                end(start, self.out);
                Ok(())
            }
            Kind::Group(id) => {
                self.out.extend_from_slice(tag.bytes());
                self.message(id, at)?;
                let closing = Tag::new(tag.value() >> 3, wire_type::END_GROUP);
                self.out.extend_from_slice(closing.bytes());
                Ok(())
            }
            _ if self.scan.value()? != b'"' => {
                let expected = scalar::expected(self.plans, kind);
                self.mismatch(&expected, at)
            }
            Kind::String => self.string(tag, skip_empty),
            _ => {
                let text: Cow<'_, str> = self.scan.string()?;
                if text.is_empty() && skip_empty {
                    return Ok(());
                }
                self.out.extend_from_slice(tag.bytes());
                let start = begin(self.out);
                if !scalar::put_base64(&text, self.out) {
                    self.violations.add(at.to_string(), format!("expected a base64 string, found {text:?}"));
                }
                end(start, self.out);
                Ok(())
            }
        }
    }

    #[inline]
    fn string(&mut self, tag: &Tag, skip_empty: bool) -> Result<(), Syntax> {
        match self.scan.plain_string() {
            Some("") if skip_empty => {}
            Some(text) => put_delimited(tag, text.as_bytes(), self.out),
            None => {
                self.out.extend_from_slice(tag.bytes());
                let start = begin(self.out);
                self.scan.string_into(self.out)?;
                end(start, self.out);
            }
        }
        Ok(())
    }

    /// Something else is there: says so, and passes over it.
    #[cold]
    fn mismatch(&mut self, expected: &str, at: &At<'_>) -> Result<(), Syntax> {
        let found = match self.scan.value()? {
            b'{' => "an object",
            b'[' => "an array",
            b'"' => "a string",
            b't' | b'f' => "a boolean",
            b'n' => "null",
            _ => "a number",
        };
        self.scan.skip()?;
        self.violations.add(at.to_string(), format!("expected {expected}, found {found}"));
        Ok(())
    }
}
