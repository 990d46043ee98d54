//! Maps: on the wire, entries in any order, where of two with the same key the later counts; in JSON, an object.

use super::{Stop, Writer, text};
use crate::{
    plan::{FieldPlan, Kind},
    wire::Reader,
};

/// An entry's two values, as they were on the wire.
#[derive(Clone, Copy)]
enum Raw<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl Writer<'_> {
    /// A map's entries up to the first field of another number. False: there was none.
    pub(super) fn map(
        &mut self,
        field: &FieldPlan,
        key: Kind,
        first: u32,
        reader: &mut Reader<'_>,
        depth: usize,
    ) -> Result<bool, Stop> {
        let start = self.out.len();
        let keys = self.keys.len();
        let mut next = Some(first);
        while let Some(tag) = next {
            if tag != field.tag.value() {
                return Err(Stop::Irregular);
            }
            self.entry(field.kind, key, reader.delimited()?, depth)?;
            next = reader.tag_if(|tag| tag >> 3 == field.number);
        }
        if !self.merged && has_twins(&mut self.keys[keys..]) {
            return Err(Stop::Irregular);
        }
        self.keys.truncate(keys);
        let some = self.out.len() > start;
        self.close(start, b'{', b'}');
        Ok(some)
    }

    fn entry(&mut self, kind: Kind, key: Kind, bytes: &[u8], depth: usize) -> Result<(), Stop> {
        let mut reader = Reader::new(bytes);
        let (mut key_raw, mut value_raw) = (None, None);
        while !reader.is_empty() {
            let tag = reader.tag()?;
            match tag >> 3 {
                1 => put(&mut key_raw, read(key, tag, &mut reader)?)?,
                2 => put(&mut value_raw, read(kind, tag, &mut reader)?)?,
                _ => reader.skip(tag, depth)?,
            }
        }
        if let Some(Raw::Number(raw)) = value_raw
            && self.is_unknown(kind, raw)
        {
            return Ok(());
        }
        self.out.push(b',');
        self.key(key, key_raw)?;
        self.out.push(b':');
        match value_raw {
            None => self.default_value(kind, depth),
            Some(Raw::Number(raw)) => self.number(kind, raw),
            Some(Raw::Bytes(bytes)) => self.content_value(kind, bytes, depth),
        }
    }

    fn key(&mut self, kind: Kind, raw: Option<Raw<'_>>) -> Result<(), Stop> {
        let raw = raw.unwrap_or(if kind == Kind::String { Raw::Bytes(b"") } else { Raw::Number(0) });
        match raw {
            Raw::Bytes(bytes) => {
                self.keys.push(hash(bytes));
                text::string(bytes, self.out)
            }
            Raw::Number(raw) => {
                self.keys.push(raw);
                // 64-bit integers have their quotes already.
                let quoted = matches!(
                    kind,
                    Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64
                );
                if quoted {
                    return self.number(kind, raw);
                }
                self.out.push(b'"');
                self.number(kind, raw)?;
                self.out.push(b'"');
                Ok(())
            }
        }
    }
}

fn read<'a>(kind: Kind, tag: u32, reader: &mut Reader<'a>) -> Result<Raw<'a>, Stop> {
    match tag & 7 {
        wire_type if wire_type != kind.wire_type() => Err(Stop::Irregular),
        wire_type if kind.packable() => Ok(Raw::Number(reader.number(wire_type)?)),
        _ => Ok(Raw::Bytes(reader.delimited()?)),
    }
}

fn put<'a>(slot: &mut Option<Raw<'a>>, value: Raw<'a>) -> Result<(), Stop> {
    if slot.replace(value).is_some() { Err(Stop::Irregular) } else { Ok(()) }
}

/// Two keys that only seem alike cost a detour, never a wrong answer.
fn hash(bytes: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = bytes.as_chunks();
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(K).rotate_left(29);
    let hash = words.iter().fold(K ^ bytes.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let last = rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    mix(hash, last)
}

fn has_twins(keys: &mut [u64]) -> bool {
    if keys.len() <= 8 {
        return (1..keys.len()).any(|at| keys[..at].contains(&keys[at]));
    }
    keys.sort_unstable();
    keys.windows(2).any(|pair| pair[0] == pair[1])
}
