//! Compiled plans: for each message, tables that lead from wire bytes to JSON and back with no message object between.
//!
//! Built once when contracts are loaded; everything a message refers to is found by index.

mod build;
mod seen;

use std::{collections::HashMap, ops::Index};

use prost_reflect::MessageDescriptor;

pub(crate) use seen::Seen;

use crate::Unknown;

/// The plans of all messages and enums of a pool.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    messages: Vec<MessagePlan>,
    enums: Vec<EnumPlan>,
    by_name: HashMap<String, MessageId>,
    unknown: Unknown,
}

/// A message's place in the plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageId(u32);

/// An enum's place in the plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EnumId(u32);

/// How a message looks in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// An object of its fields.
    Fields,
    Any,
    Duration,
    FieldMask,
    ListValue,
    Struct,
    Timestamp,
    Value,
    /// `google.protobuf.Int32Value` and the like: the value itself.
    Wrapper,
}

#[derive(Debug)]
pub(crate) struct MessagePlan {
    pub(crate) descriptor: MessageDescriptor,
    pub(crate) form: Form,
    /// By number, ascending; extensions that the pool knows are among them.
    pub(crate) fields: Vec<FieldPlan>,
    /// How many there are that are not synthetic.
    pub(crate) oneofs: usize,
    /// Field numbers to places, for small numbers.
    dense: Vec<u16>,
    /// JSON names and the contract's own.
    names: HashMap<Box<str>, u16>,
}

#[derive(Debug)]
pub(crate) struct FieldPlan {
    pub(crate) number: u32,
    pub(crate) name: Box<str>,
    pub(crate) json_name: Box<str>,
    /// `,"jsonName":`
    pub(crate) key: Box<[u8]>,
    /// The key on the wire before the value, or before each element that is not packed.
    pub(crate) tag: Tag,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
    /// Whether a value that is the type's default differs from none.
    pub(crate) presence: bool,
    /// The oneof that it is a member of, by its place in the message.
    pub(crate) oneof: Option<u16>,
}

/// A key of the wire format, encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tag {
    bytes: [u8; 5],
    length: u8,
    value: u32,
}

/// A value's type; that of an element or map value where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum(EnumId),
    Message(MessageId),
    /// proto2's groups: delimited by tags instead of a length.
    Group(MessageId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    One,
    List {
        /// How it is written; both ways are read.
        packed: bool,
    },
    Map {
        key: Kind,
    },
}

#[derive(Debug)]
pub(crate) struct EnumPlan {
    /// `google.protobuf.NullValue`, which is `null` in JSON.
    pub(crate) is_null: bool,
    /// proto2's enums: numbers without a name are unknown fields.
    pub(crate) closed: bool,
    /// By number, ascending: `"NAME"` with its quotes.
    by_number: Vec<(i32, Box<str>)>,
    by_name: HashMap<Box<str>, i32>,
}

/// The wire types of the encoding.
pub(crate) mod wire_type {
    pub(crate) const VARINT: u32 = 0;
    pub(crate) const FIXED64: u32 = 1;
    pub(crate) const DELIMITED: u32 = 2;
    pub(crate) const START_GROUP: u32 = 3;
    pub(crate) const END_GROUP: u32 = 4;
    pub(crate) const FIXED32: u32 = 5;
}

impl Plans {
    /// The plan of a message by its full name, as in the type URL of an `Any`.
    pub(crate) fn by_name(&self, full_name: &str) -> Option<MessageId> {
        self.by_name.get(full_name).copied()
    }

    /// What becomes of fields in requests that no message has.
    pub(crate) fn unknown(&self) -> Unknown {
        self.unknown
    }

    pub(crate) fn enumeration(&self, id: EnumId) -> &EnumPlan {
        &self.enums[id.0 as usize]
    }
}

impl Index<MessageId> for Plans {
    type Output = MessagePlan;

    fn index(&self, id: MessageId) -> &MessagePlan {
        &self.messages[id.0 as usize]
    }
}

impl MessagePlan {
    /// The place of the field with this number.
    #[inline]
    pub(crate) fn place(&self, number: u32) -> Option<usize> {
        if let Some(&place) = self.dense.get(number as usize) {
            return (place != build::NONE).then_some(place.into());
        }
        self.fields.binary_search_by_key(&number, |field| field.number).ok()
    }

    /// The place of the field with this JSON name, or the contract's own.
    pub(crate) fn place_of(&self, name: &str) -> Option<usize> {
        self.names.get(name).map(|&place| place.into())
    }

    /// The values that the JSON form of a struct, list or wrapper is made of, by their number.
    pub(crate) fn field(&self, number: u32) -> Option<&FieldPlan> {
        self.place(number).map(|place| &self.fields[place])
    }

    /// A set that holds fields and oneofs.
    #[inline]
    pub(crate) fn nothing_seen(&self) -> Seen {
        Seen::new(self.fields.len() + self.oneofs)
    }
}

impl EnumPlan {
    /// `"NAME"` with its quotes.
    #[inline]
    pub(crate) fn quoted(&self, number: i32) -> Option<&str> {
        // Most enums count from zero.
        let guess = usize::try_from(number).ok().and_then(|number| self.by_number.get(number));
        if let Some((found, name)) = guess
            && *found == number
        {
            return Some(name);
        }
        let place = self.by_number.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(&self.by_number[place].1)
    }

    pub(crate) fn number(&self, name: &str) -> Option<i32> {
        self.by_name.get(name).copied()
    }

    /// The first names, for an error.
    pub(crate) fn names(&self) -> String {
        let names = self.by_number.iter().take(20).map(|(_, name)| name.trim_matches('"'));
        names.collect::<Vec<_>>().join(", ")
    }
}

impl Tag {
    pub(crate) fn new(number: u32, wire_type: u32) -> Self {
        let value = number << 3 | wire_type;
        let (mut bytes, mut length, mut rest) = ([0; 5], 0, value);
        while rest >= 0x80 {
            bytes[usize::from(length)] = rest as u8 | 0x80;
            rest >>= 7;
            length += 1;
        }
        bytes[usize::from(length)] = rest as u8;
        Self { bytes, length: length + 1, value }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The key as a number.
    #[inline]
    pub(crate) fn value(self) -> u32 {
        self.value
    }
}

impl Kind {
    #[inline]
    pub(crate) fn wire_type(self) -> u32 {
        match self {
            Self::Double | Self::Fixed64 | Self::Sfixed64 => wire_type::FIXED64,
            Self::Float | Self::Fixed32 | Self::Sfixed32 => wire_type::FIXED32,
            Self::String | Self::Bytes | Self::Message(_) => wire_type::DELIMITED,
            Self::Group(_) => wire_type::START_GROUP,
            _ => wire_type::VARINT,
        }
    }

    /// Whether elements can stand side by side without keys: all that is a number.
    #[inline]
    pub(crate) fn packable(self) -> bool {
        !matches!(self, Self::String | Self::Bytes | Self::Message(_) | Self::Group(_))
    }

    pub(crate) fn is_integer(self) -> bool {
        self.packable() && !matches!(self, Self::Double | Self::Float | Self::Bool | Self::Enum(_))
    }

    /// Whether a number as it was on the wire is the type's default.
    #[inline]
    pub(crate) fn is_default(self, raw: u64) -> bool {
        match self {
            // Wider varints are cut to the type, as every decoder does.
            Self::Int32 | Self::Uint32 | Self::Sint32 | Self::Enum(_) => raw as u32 == 0,
            _ => raw == 0,
        }
    }
}
