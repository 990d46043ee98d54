//! Random messages from a seed: the same seed gives the same message.

use std::collections::HashMap;

use prost::Message;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};

/// A generator of numbers (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }

    /// Changes, removes, repeats or inserts a few bytes.
    pub(crate) fn damage(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        match self.below(4) {
            0 if at < bytes.len() => bytes[at] = self.next() as u8,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            _ => bytes.insert(at, b"\0\x01\x08\x0a\x0b\x0c\"{}[]:,\\\xff0"[self.below(16)]),
        }
    }

    /// Writes a document with the members of its objects in any order, and blanks here and there.
    pub(crate) fn write_shuffled(&mut self, json: &serde_json::Value, out: &mut String) {
        out.push_str(["", "", " ", "\r\n\t"][self.below(4)]);
        match json {
            serde_json::Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                for at in (1..members.len()).rev() {
                    members.swap(at, self.below(at + 1));
                }
                out.push('{');
                for (at, (key, value)) in members.into_iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    out.push_str(&serde_json::to_string(key).unwrap());
                    out.push(':');
                    self.write_shuffled(value, out);
                }
                out.push('}');
            }
            serde_json::Value::Array(values) => {
                out.push('[');
                for (at, value) in values.iter().enumerate() {
                    out.push_str(if at > 0 { "," } else { "" });
                    self.write_shuffled(value, out);
                }
                out.push(']');
            }
            other => out.push_str(&other.to_string()),
        }
        out.push_str(["", "", " "][self.below(3)]);
    }

    /// A message with some of its fields set.
    pub(crate) fn message(&mut self, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        match descriptor.full_name() {
            "google.protobuf.Timestamp" => {
                let seconds = self.next().cast_signed() % 253_402_300_000;
                message.set_field_by_name("seconds", Value::I64(seconds.max(-62_135_596_800)));
                message.set_field_by_name("nanos", Value::I32(self.nanos()));
                return message;
            }
            "google.protobuf.Duration" => {
                // Not negative: merged with another, the signs of seconds and nanos could differ, which is no duration.
                let seconds = (self.next() % 315_576_000_000).cast_signed();
                message.set_field_by_name("seconds", Value::I64(seconds));
                message.set_field_by_name("nanos", Value::I32(self.nanos()));
                return message;
            }
            "google.protobuf.FieldMask" => {
                let paths = ["a", "foo_bar", "a.b_c", "x1"].map(|path| Value::String(path.to_owned()));
                message.set_field_by_name("paths", Value::List(paths[..self.below(5)].to_vec()));
                return message;
            }
            "google.protobuf.Value" => {
                let kinds: Vec<_> = descriptor.fields().collect();
                let field = &kinds[self.below(if depth == 0 { 4 } else { 6 })];
                let value = match field.name() {
                    "number_value" => Value::F64(f64::from(self.next() as i32) / 8.0),
                    "null_value" => Value::EnumNumber(0),
                    _ => self.value(&field.kind(), depth),
                };
                message.set_field(field, value);
                return message;
            }
            "google.protobuf.Any" => {
                let pool = descriptor.parent_pool();
                let inner = ["shapes.Tree", "google.protobuf.Duration"][self.below(2)];
                let inner = self.message(&pool.get_message_by_name(inner).unwrap(), depth.saturating_sub(1));
                let name = inner.descriptor().full_name().to_owned();
                message.set_field_by_name("type_url", Value::String(format!("type.googleapis.com/{name}")));
                message.set_field_by_name("value", Value::Bytes(inner.encode_to_vec().into()));
                return message;
            }
            // prost-reflect writes infinity in a wrapper as null.
            "google.protobuf.DoubleValue" => {
                let number = f64::from(self.next() as i32) / 8.0;
                message.set_field_by_name("value", Value::F64(number));
                return message;
            }
            "google.protobuf.FloatValue" => {
                let number = self.below(1_000_000) as f32 / 8.0;
                message.set_field_by_name("value", Value::F32(number));
                return message;
            }
            _ => {}
        }
        for field in descriptor.fields() {
            if !self.one_in(3) || (depth == 0 && matches!(field.kind(), Kind::Message(_))) {
                continue;
            }
            let value = self.field(&field, depth);
            message.set_field(&field, value);
        }
        message
    }

    fn nanos(&mut self) -> i32 {
        let nanos = (self.next() % 1_000_000_000) as i32;
        [0, nanos, nanos / 1000 * 1000, nanos / 1_000_000 * 1_000_000][self.below(4)]
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
                let mut map = HashMap::new();
                for _ in 0..self.below(20) {
                    map.insert(self.key(&key), self.value(&value, depth.saturating_sub(1)));
                }
                Value::Map(map)
            }
            kind if field.is_list() => {
                Value::List((0..self.below(4)).map(|_| self.value(&kind, depth.saturating_sub(1))).collect())
            }
            kind => self.value(&kind, depth.saturating_sub(1)),
        }
    }

    fn key(&mut self, kind: &Kind) -> MapKey {
        self.value(kind, 0).into_map_key().unwrap()
    }

    fn integer(&mut self) -> u64 {
        let number = self.next();
        [0, 1, number, number >> 40, u64::MAX, i64::MAX as u64, i64::MIN as u64][self.below(7)]
    }

    fn value(&mut self, kind: &Kind, depth: usize) -> Value {
        let number = self.integer();
        match kind {
            Kind::Double => Value::F64(match self.below(6) {
                0 => f64::INFINITY,
                1 => -0.0,
                2 => f64::from_bits(number & !(0x7ff << 52) | (self.next() % 0x7ff) << 52),
                3 => 0.0,
                _ => f64::from(number as i32) / 100.0,
            }),
            Kind::Float => Value::F32(match self.below(5) {
                0 => f32::NEG_INFINITY,
                1 => 0.0,
                _ => (number as i32 as f32) / 64.0,
            }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number as i32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number.cast_signed()),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(number as u32),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(number),
            Kind::Bool => Value::Bool(number & 1 == 1),
            Kind::String => Value::String(self.text()),
            Kind::Bytes => {
                Value::Bytes((0..self.below(40)).map(|_| self.next() as u8).collect::<Vec<_>>().into())
            }
            Kind::Enum(it) => {
                let known = it.values().nth(self.below(it.values().len())).unwrap().number();
                Value::EnumNumber(if self.one_in(9) && it.full_name() != "google.protobuf.NullValue" {
                    number as i32
                } else {
                    known
                })
            }
            Kind::Message(message) => Value::Message(self.message(message, depth)),
        }
    }

    fn text(&mut self) -> String {
        const PIECES: [&str; 10] =
            ["", "plain words ", "\"", "\\", "\n\t", "\u{1}", "é", "日本", "\u{1f600}", "0123456789abcdef"];
        (0..self.below(8)).map(|_| PIECES[self.below(PIECES.len())]).collect()
    }
}
