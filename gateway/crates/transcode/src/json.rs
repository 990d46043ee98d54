//! JSON to a protobuf message in one pass over the text, guided by descriptors.
//!
//! Unlike prost-reflect's own deserializer it names the place of each error, reports all of them, and refuses
//! duplicate keys. Well-known types are prost-reflect's.

use std::{cell::RefCell, collections::HashMap, fmt};

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{TranscodeError, Violation, scalar};

/// Messages may nest this deep, as in every protobuf runtime.
const MAX_DEPTH: usize = 100;
/// Violations reported at most.
const MAX_VIOLATIONS: usize = 16;

/// Collects violations while reading goes on.
#[derive(Default)]
pub(crate) struct Violations(RefCell<Vec<Violation>>);

impl Violations {
    pub(crate) fn add(&self, field: impl Into<String>, description: impl Into<String>) {
        let mut list = self.0.borrow_mut();
        if list.len() < MAX_VIOLATIONS {
            list.push(Violation { field: field.into(), description: description.into() });
        }
    }

    pub(crate) fn into_result<T>(self, value: T) -> Result<T, TranscodeError> {
        let list = self.0.into_inner();
        if list.is_empty() { Ok(value) } else { Err(TranscodeError::Invalid(list)) }
    }
}

/// Reads a whole body as a message.
pub(crate) fn message(
    body: &[u8],
    descriptor: &MessageDescriptor,
    violations: &Violations,
) -> Result<Option<Value>, TranscodeError> {
    let kind = Kind::Message(descriptor.clone());
    read(body, Seed { want: Want::One(&kind), at: At::ROOT, violations })
}

/// Reads a whole body as the value of a field.
pub(crate) fn field(
    body: &[u8],
    field: &FieldDescriptor,
    violations: &Violations,
) -> Result<Option<Value>, TranscodeError> {
    let at = At { parent: Some(&At::ROOT), step: Step::Field(field.name()), depth: 1 };
    read(body, FieldSeed { field, at, violations })
}

fn read<'de, S: DeserializeSeed<'de>>(body: &'de [u8], seed: S) -> Result<S::Value, TranscodeError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = seed.deserialize(&mut deserializer);
    value.and_then(|value| deserializer.end().map(|()| value)).map_err(|error| {
        let text = error.to_string();
        let description = text.split(" at line ").next().unwrap_or(&text).to_owned();
        TranscodeError::Syntax { description, line: error.line(), column: error.column() }
    })
}

/// A place in the document: a list on the stack, turned into text only for an error.
#[derive(Clone, Copy)]
struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
    depth: usize,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> At<'a> {
    const ROOT: At<'static> = At { parent: None, step: Step::Root, depth: 0 };

    fn child<'b>(&'b self, step: Step<'b>) -> At<'b>
    where
        'a: 'b,
    {
        At { parent: Some(self), step, depth: self.depth + 1 }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent = self.parent.filter(|parent| !matches!(parent.step, Step::Root));
        if let Some(parent) = parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => f.write_str("body"),
            Step::Field(name) if parent.is_some() => write!(f, ".{name}"),
            Step::Field(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key:?}]"),
        }
    }
}

/// What is to be read.
enum Want<'a> {
    One(&'a Kind),
    List(&'a Kind),
    Map(&'a MessageDescriptor),
}

/// Reads one field's value: its cardinality decides the JSON's shape.
struct FieldSeed<'a> {
    field: &'a FieldDescriptor,
    at: At<'a>,
    violations: &'a Violations,
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let kind = self.field.kind();
        let want = match &kind {
            Kind::Message(entry) if self.field.is_map() => Want::Map(entry),
            kind if self.field.is_list() => Want::List(kind),
            kind => Want::One(kind),
        };
        Seed { want, at: self.at, violations: self.violations }.deserialize(deserializer)
    }
}

/// Reads one value. `None`: there was `null`, or what was there is a violation.
struct Seed<'a> {
    want: Want<'a>,
    at: At<'a>,
    violations: &'a Violations,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.at.depth > MAX_DEPTH {
            self.violations.add(self.at.to_string(), format!("is nested deeper than {MAX_DEPTH} levels"));
            return deserializer.deserialize_ignored_any(IgnoredAny).map(|_| None);
        }
        match self.want {
            Want::One(Kind::Message(descriptor)) if is_well_known(descriptor) => {
                let value = StrictSeed(self.at, self.violations).deserialize(deserializer)?;
                Ok(self.well_known(descriptor, value))
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl Seed<'_> {
    fn well_known(&self, descriptor: &MessageDescriptor, value: serde_json::Value) -> Option<Value> {
        if value.is_null() && descriptor.full_name() != "google.protobuf.Value" {
            return None;
        }
        match DynamicMessage::deserialize(descriptor.clone(), value) {
            Ok(message) => Some(Value::Message(message)),
            Err(error) => {
                self.violations
                    .add(self.at.to_string(), format!("is not a {}: {error}", descriptor.full_name()));
                None
            }
        }
    }

    fn mismatch(&self, found: &str) {
        let expected = match self.want {
            Want::One(kind) => scalar::expected(kind),
            Want::List(_) => "an array".to_owned(),
            Want::Map(_) => "an object".to_owned(),
        };
        self.violations.add(self.at.to_string(), format!("expected {expected}, found {found}"));
    }

    fn scalar<E>(
        &self,
        found: &str,
        convert: impl FnOnce(&Kind) -> Result<Value, String>,
    ) -> Result<Option<Value>, E> {
        match self.want {
            Want::One(kind) if !matches!(kind, Kind::Message(_)) => match convert(kind) {
                Ok(value) => return Ok(Some(value)),
                Err(description) => self.violations.add(self.at.to_string(), description),
            },
            _ => self.mismatch(found),
        }
        Ok(None)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        self.scalar("a boolean", |kind| match kind {
            Kind::Bool => Ok(Value::Bool(value)),
            kind => Err(format!("expected {}, found a boolean", scalar::expected(kind))),
        })
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        self.scalar("a number", |kind| scalar::from_integer(kind, value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        self.scalar("a number", |kind| scalar::from_integer(kind, value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        self.scalar("a number", |kind| scalar::from_f64(kind, value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        self.scalar("a string", |kind| scalar::from_json_string(kind, value))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        match (&self.want, self.at.step) {
            (Want::One(Kind::Enum(descriptor)), _)
                if descriptor.full_name() == "google.protobuf.NullValue" =>
            {
                Ok(Some(Value::EnumNumber(0)))
            }
            (_, Step::Field(_)) => Ok(None),
            _ => {
                self.mismatch("null");
                Ok(None)
            }
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let Want::List(kind) = self.want else {
            self.mismatch("an array");
            while sequence.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        let mut values = vec![];
        let mut index = 0;
        loop {
            let at = self.at.child(Step::Index(index));
            let seed = Seed { want: Want::One(kind), at, violations: self.violations };
            let Some(element) = sequence.next_element_seed(seed)? else { break };
            values.extend(element);
            index += 1;
        }
        Ok(Some(Value::List(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        match self.want {
            Want::One(Kind::Message(descriptor)) => read_message(map, descriptor, &self.at, self.violations)
                .map(|message| Some(Value::Message(message))),
            Want::Map(entry) => {
                read_map(map, entry, &self.at, self.violations).map(|map| Some(Value::Map(map)))
            }
            _ => {
                self.mismatch("an object");
                skip(map)?;
                Ok(None)
            }
        }
    }
}

fn skip<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

fn read_message<'de, A: MapAccess<'de>>(
    mut map: A,
    descriptor: &MessageDescriptor,
    at: &At<'_>,
    violations: &Violations,
) -> Result<DynamicMessage, A::Error> {
    let mut message = DynamicMessage::new(descriptor.clone());
    let mut seen: Vec<u32> = vec![];
    while let Some(key) = map.next_key_seed(FieldKey(descriptor))? {
        let (field, name) = match &key {
            Key::Field(field, true) => (field, field.json_name()),
            Key::Field(field, false) => (field, field.name()),
            Key::Unknown(name) => {
                let at = at.child(Step::Field(name));
                violations.add(at.to_string(), format!("no such field in {}", descriptor.full_name()));
                map.next_value::<IgnoredAny>()?;
                continue;
            }
        };
        let at = at.child(Step::Field(name));
        if seen.contains(&field.number()) {
            violations.add(at.to_string(), "is given more than once");
            map.next_value::<IgnoredAny>()?;
            continue;
        }
        seen.push(field.number());
        let Some(value) = map.next_value_seed(FieldSeed { field, at, violations })? else { continue };
        if let Some(other) = other_of_oneof(&message, field) {
            violations.add(at.to_string(), format!("cannot be given together with {other}"));
            continue;
        }
        message.set_field(field, value);
    }
    Ok(message)
}

/// The member of the field's oneof that the message has already.
pub(crate) fn other_of_oneof(message: &DynamicMessage, field: &FieldDescriptor) -> Option<String> {
    let oneof = field.containing_oneof()?;
    let mut others = oneof.fields().filter(|other| other.number() != field.number());
    others.find(|other| message.has_field(other)).map(|other| other.json_name().to_owned())
}

fn read_map<'de, A: MapAccess<'de>>(
    mut map: A,
    entry: &MessageDescriptor,
    at: &At<'_>,
    violations: &Violations,
) -> Result<HashMap<MapKey, Value>, A::Error> {
    let (key_kind, value_field) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field());
    let value_kind = value_field.kind();
    let mut values = HashMap::new();
    while let Some(text) = map.next_key::<String>()? {
        let at = at.child(Step::Key(&text));
        let key = scalar::from_text(&key_kind, &text).map(Value::into_map_key);
        let value = map.next_value_seed(Seed { want: Want::One(&value_kind), at, violations })?;
        match (key, value) {
            (Ok(Some(key)), Some(value)) => {
                let earlier = values.insert(key, value);
                if earlier.is_some() {
                    violations.add(at.to_string(), "is given more than once");
                }
            }
            (Err(description), _) => violations.add(at.to_string(), format!("key: {description}")),
            _ => {}
        }
    }
    Ok(values)
}

/// A message's key, looked up without keeping the text.
struct FieldKey<'a>(&'a MessageDescriptor);

enum Key {
    /// The field, and whether by its JSON name.
    Field(FieldDescriptor, bool),
    Unknown(String),
}

impl<'de> DeserializeSeed<'de> for FieldKey<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldKey<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Key, E> {
        let by_json = self.0.get_field_by_json_name(name).map(|field| Key::Field(field, true));
        let by_name = || self.0.get_field_by_name(name).map(|field| Key::Field(field, false));
        Ok(by_json.or_else(by_name).unwrap_or_else(|| Key::Unknown(name.to_owned())))
    }
}

/// The messages whose JSON form is their own.
fn is_well_known(descriptor: &MessageDescriptor) -> bool {
    descriptor.package_name() == "google.protobuf"
        && (scalar::has_text_form(&Kind::Message(descriptor.clone()))
            || matches!(descriptor.name(), "Any" | "Struct" | "Value" | "ListValue" | "Empty"))
}

/// Reads any JSON, refusing duplicate keys, which `serde_json::Value` would swallow.
struct StrictSeed<'a>(At<'a>, &'a Violations);

impl<'de> DeserializeSeed<'de> for StrictSeed<'_> {
    type Value = serde_json::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictSeed<'_> {
    type Value = serde_json::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(serde_json::Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![];
        while let Some(value) =
            sequence.next_element_seed(StrictSeed(self.0.child(Step::Index(values.len())), self.1))?
        {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let at = self.0.child(Step::Key(&key));
            let value = map.next_value_seed(StrictSeed(at, self.1))?;
            if object.contains_key(&key) {
                self.1.add(at.to_string(), "is given more than once");
            }
            object.insert(key, value);
        }
        Ok(object.into())
    }
}
