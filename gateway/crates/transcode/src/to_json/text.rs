//! Single values as JSON text.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::Stop;
use crate::plan::Kind;

/// A string from the bytes of a string field, which have to be UTF-8.
#[inline]
pub(crate) fn string(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
    let text = std::str::from_utf8(bytes).map_err(|_| Stop::Invalid("a string is not UTF-8"))?;
    quoted(text, out);
    Ok(())
}

/// A string with its quotes.
#[inline]
pub(crate) fn quoted(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let clean = clean_prefix(bytes);
    out.extend_from_slice(&bytes[..clean]);
    if clean < bytes.len() {
        escape(&bytes[clean..], out);
    }
    out.push(b'"');
}

/// How many bytes from the start need no escape.
#[inline]
pub(crate) fn clean_prefix(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let found = escapes(u64::from_le_bytes(*word));
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let start = bytes.len() - rest.len();
    start + rest.iter().position(|byte| needs_escape(*byte)).unwrap_or(rest.len())
}

/// The top bit of each byte that is a quote, a backslash or below a blank. Above the first such byte there may be false
/// alarms, since a subtraction borrows; the first is right. Source: Bit Twiddling Hacks, "haszero" and "hasless".
#[inline]
fn escapes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES * 0x80;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let found = (quote.wrapping_sub(ONES) & !quote)
        | (backslash.wrapping_sub(ONES) & !backslash)
        | (word.wrapping_sub(ONES * 0x20) & !word);
    found & TOPS
}

#[inline]
fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[cold]
fn escape(mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some((&byte, rest)) = bytes.split_first() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => 0,
        };
        if short != 0 {
            out.extend_from_slice(&[b'\\', short]);
        } else {
            let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
        }
        let clean = clean_prefix(rest);
        out.extend_from_slice(&rest[..clean]);
        bytes = &rest[clean..];
    }
}

/// Bytes as padded base64 with its quotes.
pub(crate) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or_default();
    out.truncate(start + written);
    out.push(b'"');
}

#[inline]
pub(crate) fn integer(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// An integer of any kind, from what was on the wire.
#[inline]
pub(crate) fn integer_of(kind: Kind, raw: u64, out: &mut Vec<u8>) {
    match kind {
        Kind::Uint32 | Kind::Fixed32 => integer(raw as u32, out),
        Kind::Sint32 => integer((raw as u32 >> 1) as i32 ^ -((raw & 1) as i32), out),
        Kind::Int64 | Kind::Sfixed64 => integer(raw.cast_signed(), out),
        Kind::Uint64 | Kind::Fixed64 => integer(raw, out),
        Kind::Sint64 => integer((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed(), out),
        _ => integer(raw as i32, out),
    }
}

/// The shortest text that reads back as the same number.
#[inline]
pub(crate) fn double(number: f64, out: &mut Vec<u8>) {
    if number.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
    } else {
        out.extend_from_slice(not_finite(number));
    }
}

#[inline]
pub(crate) fn float(number: f32, out: &mut Vec<u8>) {
    if number.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
    } else {
        out.extend_from_slice(not_finite(number.into()));
    }
}

fn not_finite(number: f64) -> &'static [u8] {
    match number {
        f64::INFINITY => b"\"Infinity\"",
        f64::NEG_INFINITY => b"\"-Infinity\"",
        _ => b"\"NaN\"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_serde_json_does_wherever_the_escape_stands() {
        let mut texts: Vec<String> = (0..=0x7f_u8).map(|byte| char::from(byte).to_string()).collect();
        texts.extend(["", "é", "日本語", "a\u{2028}b", "\u{1f600}\"\\\u{7f}"].map(str::to_owned));
        for special in ['"', '\\', '\n', '\u{1}', '\u{1f}', ' ', '!', '#', '[', ']', '\u{80}', '\u{a2}', 'ü']
        {
            for at in 0..20 {
                for after in [0, 1, 7, 8, 9] {
                    texts.push(format!("{}{special}{}", "x".repeat(at), "y".repeat(after)));
                }
            }
        }
        for text in texts {
            let mut out = vec![];
            quoted(&text, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&text).unwrap());
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_no_string() {
        assert!(string(b"ab\xff", &mut vec![]).is_err());
    }

    #[test]
    fn numbers_have_their_shortest_form() {
        let text = |number: f64| {
            let mut out = vec![];
            double(number, &mut out);
            String::from_utf8(out).unwrap()
        };
        for (number, expected) in [
            (0.1, "0.1"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (f64::NAN, "\"NaN\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(text(number), expected);
        }
        for number in [1e300, -1.5e-300, 123_456_789.123_456_79, f64::MIN_POSITIVE, f64::MAX, 5e-324] {
            assert_eq!(text(number).parse(), Ok(number));
        }
    }
}
