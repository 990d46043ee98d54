//! The protobuf wire format, at the level of keys, numbers and lengths.
//! Source: protobuf.dev/programming-guides/encoding.

use crate::plan::{Tag, wire_type};

/// Groups and messages may nest this deep, as in every protobuf runtime.
pub(crate) const MAX_DEPTH: usize = 100;

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Reads a message's bytes from front to back.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(byte.into())
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(Malformed("a number is cut off"))?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is longer than 64 bits"))
    }

    /// A field's key, as a number.
    #[inline]
    pub(crate) fn tag(&mut self) -> Result<u32, Malformed> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed("a field's key is too large"))?;
        if tag < 8 { Err(Malformed("a field has number 0")) } else { Ok(tag) }
    }

    /// Takes the next key if it is one of these.
    #[inline]
    pub(crate) fn tag_if(&mut self, accept: impl Fn(u32) -> bool) -> Option<u32> {
        let before = self.at;
        match self.tag() {
            Ok(tag) if accept(tag) => Some(tag),
            _ => {
                self.at = before;
                None
            }
        }
    }

    #[inline]
    pub(crate) fn fixed32(&mut self) -> Result<u32, Malformed> {
        let (bytes, _) = self.rest().split_first_chunk().ok_or(Malformed("a number is cut off"))?;
        self.at += 4;
        Ok(u32::from_le_bytes(*bytes))
    }

    #[inline]
    pub(crate) fn fixed64(&mut self) -> Result<u64, Malformed> {
        let (bytes, _) = self.rest().split_first_chunk().ok_or(Malformed("a number is cut off"))?;
        self.at += 8;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// A number, as it is on the wire.
    #[inline]
    pub(crate) fn number(&mut self, wire_type: u32) -> Result<u64, Malformed> {
        match wire_type {
            wire_type::VARINT => self.varint(),
            wire_type::FIXED32 => self.fixed32().map(u64::from),
            _ => self.fixed64(),
        }
    }

    /// Bytes with their length before them.
    #[inline]
    pub(crate) fn delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| Malformed("a field is cut off"))?;
        let bytes = self.rest().get(..length).ok_or(Malformed("a field is cut off"))?;
        self.at += length;
        Ok(bytes)
    }

    /// What is between a group's start, which has been read, and its end.
    pub(crate) fn group(&mut self, number: u32, depth: usize) -> Result<&'a [u8], Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed("groups are nested too deep"));
        }
        let start = self.at;
        loop {
            let end = self.at;
            let tag = self.tag()?;
            if tag == number << 3 | wire_type::END_GROUP {
                return Ok(&self.bytes[start..end]);
            }
            self.skip(tag, depth + 1)?;
        }
    }

    /// Passes over a field whose key has been read.
    pub(crate) fn skip(&mut self, tag: u32, depth: usize) -> Result<(), Malformed> {
        match tag & 7 {
            wire_type::VARINT => self.varint().map(drop),
            wire_type::FIXED64 => self.fixed64().map(drop),
            wire_type::DELIMITED => self.delimited().map(drop),
            wire_type::START_GROUP => self.group(tag >> 3, depth).map(drop),
            wire_type::FIXED32 => self.fixed32().map(drop),
            wire_type::END_GROUP => Err(Malformed("a group ends that did not begin")),
            _ => Err(Malformed("a wire type does not exist")),
        }
    }

    #[inline]
    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }
}

#[inline]
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of bytes.
#[inline]
pub(crate) fn put_delimited(tag: &Tag, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(tag.bytes());
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Begins something whose length stands before it and is not known yet; `end` takes what this returns.
#[inline]
pub(crate) fn begin(out: &mut Vec<u8>) -> usize {
    out.push(0);
    out.len()
}

/// Puts the length where `begin` left a byte for it. Longer ones move what was written: rarely, and cheaper than
/// finding out all lengths first.
#[inline]
pub(crate) fn end(start: usize, out: &mut Vec<u8>) {
    let length = out.len() - start;
    if length < 0x80 {
        out[start - 1] = length as u8;
        return;
    }
    long_end(start, length, out);
}

fn long_end(start: usize, length: usize, out: &mut Vec<u8>) {
    let (mut bytes, mut count, mut rest) = ([0; 10], 0, length);
    while rest >= 0x80 {
        bytes[count] = rest as u8 | 0x80;
        rest >>= 7;
        count += 1;
    }
    bytes[count] = rest as u8;
    out.extend_from_slice(&bytes[..count]);
    out.copy_within(start..start + length, start + count);
    out[start - 1..start + count].copy_from_slice(&bytes[..=count]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_are_read_back_and_longer_ones_refused() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = vec![];
            put_varint(value, &mut bytes);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint(), Ok(value));
            assert!(reader.is_empty());
            assert!(Reader::new(&bytes[..bytes.len() - 1]).varint().is_err());
        }
        assert!(Reader::new(&[0xff; 10]).varint().is_err());
        assert!(Reader::new(&[0x80; 11]).varint().is_err());
        // A longer form of a small number is odd, but allowed.
        assert_eq!(Reader::new(&[0x81, 0x80, 0x00]).varint(), Ok(1));
    }

    #[test]
    fn lengths_of_every_size_are_put_before_what_was_written() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_152] {
            let content: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut out = b"x".to_vec();
            let start = begin(&mut out);
            out.extend_from_slice(&content);
            end(start, &mut out);
            let mut reader = Reader::new(&out[1..]);
            assert_eq!(reader.delimited(), Ok(&content[..]));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn unknown_fields_are_passed_over_and_broken_ones_are_errors() {
        let skip = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            let tag = reader.tag()?;
            reader.skip(tag, 0).map(|()| reader.is_empty())
        };
        for whole in [
            &b"\x08\x01"[..],
            b"\x09\0\0\0\0\0\0\0\0",
            b"\x0a\x02ab",
            b"\x0b\x13\x08\x01\x14\x0c",
            b"\x0d\0\0\0\0",
        ] {
            assert_eq!(skip(whole), Ok(true), "{whole:x?}");
            for cut in 1..whole.len() {
                assert!(skip(&whole[..cut]).is_err(), "{whole:x?} {cut}");
            }
        }
        for broken in [
            &b"\x0c"[..],
            b"\x0e",
            b"\x0f",
            b"\x00\x00",
            b"\x0b\x14",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert!(skip(broken).is_err(), "{broken:x?}");
        }
        let deep = b"\x0b".repeat(1000);
        assert_eq!(skip(&deep), Err(Malformed("groups are nested too deep")));
    }
}
