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

    /// Two bytes and more. Negative numbers of the int types always have ten.
    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let rest = self.rest();
        let (value, length) = match rest.first_chunk() {
            Some(whole) => varint_at_once(*whole),
            None => varint_by_bytes(rest),
        }?;
        self.at += length;
        Ok(value)
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

/// A number and its length, eight bytes at once: where each byte ends is found in a word, and the seven bits of all
/// bytes are pushed together in three steps.
#[inline]
fn varint_at_once(bytes: [u8; 10]) -> Result<(u64, usize), Malformed> {
    const TOPS: u64 = u64::MAX / 255 * 0x80;
    let [word @ .., ninth, tenth] = bytes;
    let word = u64::from_le_bytes(word);
    let ends = !word & TOPS;
    let length = if ends == 0 { 8 } else { ends.trailing_zeros() as usize / 8 + 1 };
    let mut bits = word & (u64::MAX >> (64 - 8 * length)) & !TOPS;
    bits = (bits & 0x007f_007f_007f_007f) | (bits & 0x7f00_7f00_7f00_7f00) >> 1;
    bits = (bits & 0x0000_3fff_0000_3fff) | (bits & 0x3fff_0000_3fff_0000) >> 2;
    bits = (bits & 0x0000_0000_0fff_ffff) | (bits & 0x0fff_ffff_0000_0000) >> 4;
    if ends != 0 {
        return Ok((bits, length));
    }
    bits |= u64::from(ninth & 0x7f) << 56;
    match tenth {
        _ if ninth < 0x80 => Ok((bits, 9)),
        0 | 1 => Ok((bits | u64::from(tenth) << 63, 10)),
        _ => Err(TOO_LONG),
    }
}

/// The same byte by byte, near the end.
fn varint_by_bytes(bytes: &[u8]) -> Result<(u64, usize), Malformed> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (index * 7);
        if *byte < 0x80 {
            let too_long = index == 9 && *byte > 1;
            return if too_long { Err(TOO_LONG) } else { Ok((value, index + 1)) };
        }
    }
    Err(if bytes.len() < 10 { Malformed("a number is cut off") } else { TOO_LONG })
}

const TOO_LONG: Malformed = Malformed("a number is longer than 64 bits");

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
    fn both_ways_to_read_a_number_agree() {
        let mut word = 1_u64;
        for _ in 0..100_000 {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Runs of continuation bits of every length, and random ones.
            let tops = if word & 1 == 0 { 0x8080_8080_8080_8080 >> (word % 65).min(63) } else { 0 };
            let mut bytes = [0; 10];
            bytes[..8].copy_from_slice(&(word | tops).to_le_bytes());
            bytes[8..].copy_from_slice(&(word >> 16).to_le_bytes()[..2]);
            assert_eq!(varint_at_once(bytes), varint_by_bytes(&bytes), "{bytes:x?}");
        }
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
