//! Single values: from the text of JSON strings and numbers, paths and queries to numbers as they are on the wire.
//! An error is a description for a person; the caller knows the field.

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::scan::number_prefix;
use crate::plan::{Form, Kind, Plans, wire_type};
use crate::wire::put_varint;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// What a value of this kind looks like in JSON.
pub(crate) fn expected(plans: &Plans, kind: Kind) -> String {
    match kind {
        Kind::Double | Kind::Float => "a number".to_owned(),
        Kind::Bool => "true or false".to_owned(),
        Kind::String => "a string".to_owned(),
        Kind::Bytes => "a base64 string".to_owned(),
        Kind::Message(id) | Kind::Group(id) => match (plans[id].form, plans[id].fields.first()) {
            (Form::Wrapper, Some(value)) => expected(plans, value.kind),
            (Form::Timestamp | Form::Duration | Form::FieldMask, _) => {
                format!("a {}", plans[id].descriptor.name())
            }
            (Form::ListValue, _) => "an array".to_owned(),
            (Form::Value, _) => "a value".to_owned(),
            _ => "an object".to_owned(),
        },
        Kind::Enum(_) => "an enum value's name".to_owned(),
        _ => "an integer".to_owned(),
    }
}

#[cold]
pub(crate) fn mismatch<T>(plans: &Plans, kind: Kind, text: &str) -> Result<T, String> {
    Err(format!("expected {}, found {text:?}", expected(plans, kind)))
}

/// A number, truth value or enum from text: what its JSON string, map key or query parameter may hold.
pub(crate) fn number_from_text(plans: &Plans, kind: Kind, text: &str) -> Result<u64, String> {
    match kind {
        Kind::Bool => match text {
            "true" => Ok(1),
            "false" => Ok(0),
            _ => mismatch(plans, kind, text),
        },
        Kind::Double | Kind::Float => {
            let special = match text {
                "NaN" => Some((f64::NAN, f32::NAN)),
                "Infinity" => Some((f64::INFINITY, f32::INFINITY)),
                "-Infinity" => Some((f64::NEG_INFINITY, f32::NEG_INFINITY)),
                _ => None,
            };
            match special {
                Some((double, _)) if kind == Kind::Double => Ok(double.to_bits()),
                Some((_, float)) => Ok(float.to_bits().into()),
                None if is_number(text) => number_from_json(plans, kind, text),
                None => mismatch(plans, kind, text),
            }
        }
        Kind::Enum(id) => match plans.enumeration(id).number(text) {
            Some(number) => Ok(i64::from(number).cast_unsigned()),
            None if is_number(text) => number_from_json(plans, kind, text),
            None => Err(format!("expected one of {}, found {text:?}", plans.enumeration(id).names())),
        },
        _ if is_number(text) => number_from_json(plans, kind, text),
        _ => mismatch(plans, kind, text),
    }
}

/// A number from the text of a JSON number.
#[inline]
pub(crate) fn number_from_json(plans: &Plans, kind: Kind, text: &str) -> Result<u64, String> {
    match kind {
        Kind::Double => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number.to_bits()),
            _ => out_of_range(text),
        },
        // The shortest way to the nearest float32 is not by way of float64.
        Kind::Float => match text.parse::<f32>() {
            Ok(number) if number.is_finite() => Ok(number.to_bits().into()),
            _ => out_of_range(text),
        },
        Kind::Bool => Err(format!("expected {}, found a number", expected(plans, kind))),
        _ => match small_integer(text).map(i128::from).or_else(|| integer(text)) {
            Some(number) => in_range(kind, number).map_or_else(|| out_of_range(text), Ok),
            None if magnitude_is_huge(text) => out_of_range(text),
            None => Err(format!("expected an integer, found {text}")),
        },
    }
}

#[cold]
fn out_of_range<T>(text: &str) -> Result<T, String> {
    Err(format!("{text} is out of range"))
}

/// Up to 18 digits without fraction and exponent: nearly all there are.
#[inline]
fn small_integer(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    if digits.len() > 18 {
        return None;
    }
    let mut value = 0;
    for byte in digits.bytes() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if negative { -value } else { value })
}

/// An integer of up to 38 digits, which may be written with fraction and exponent as long as it is one: `1e3`, `1.0`.
fn integer(text: &str) -> Option<i128> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits: String = [whole, fraction].concat();
    if digits.trim_start_matches(['-', '0']).is_empty() {
        return Some(0);
    }
    let exponent: i64 = exponent.parse().ok()?;
    let shift = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let value: i128 = digits.parse().ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(shift.unsigned_abs()).ok()?)?;
    if shift >= 0 { value.checked_mul(scale) } else { (value % scale == 0).then_some(value / scale) }
}

/// Whether a number that is no small integer is at least a large one.
fn magnitude_is_huge(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(|number| number.abs() >= 1e20)
}

fn in_range(kind: Kind, number: i128) -> Option<u64> {
    Some(match kind {
        Kind::Int32 | Kind::Sfixed32 | Kind::Enum(_) => {
            i64::from(i32::try_from(number).ok()?).cast_unsigned()
        }
        Kind::Sint32 => {
            let number = i32::try_from(number).ok()?;
            ((number << 1) ^ (number >> 31)).cast_unsigned().into()
        }
        Kind::Uint32 | Kind::Fixed32 => u32::try_from(number).ok()?.into(),
        Kind::Int64 | Kind::Sfixed64 => i64::try_from(number).ok()?.cast_unsigned(),
        Kind::Sint64 => {
            let number = i64::try_from(number).ok()?;
            ((number << 1) ^ (number >> 63)).cast_unsigned()
        }
        _ => u64::try_from(number).ok()?,
    })
}

fn is_number(text: &str) -> bool {
    number_prefix(text.as_bytes()) == Some(text.len())
}

/// Appends a number as the wire has it.
#[inline]
pub(crate) fn put_number(kind: Kind, raw: u64, out: &mut Vec<u8>) {
    match kind.wire_type() {
        wire_type::VARINT => put_varint(raw, out),
        wire_type::FIXED32 => out.extend_from_slice(&(raw as u32).to_le_bytes()),
        _ => out.extend_from_slice(&raw.to_le_bytes()),
    }
}

/// Appends what base64 stands for, in either alphabet, padded or not. False: it is no base64.
pub(crate) fn put_base64(text: &str, out: &mut Vec<u8>) -> bool {
    let url_safe = memchr::memchr2(b'-', b'_', text.as_bytes()).is_some();
    let engine = if url_safe { BASE64_URL } else { BASE64 };
    engine.decode_vec(text, out).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_text(kind: Kind, text: &str) -> Result<u64, String> {
        number_from_text(&Plans::default(), kind, text)
    }

    #[test]
    fn numbers_from_text() {
        let minus = |number: i64| Ok(number.cast_unsigned());
        for (kind, text, expected) in [
            (Kind::Int32, "-2147483648", minus(i32::MIN.into())),
            (Kind::Int64, "1e3", Ok(1000)),
            (Kind::Int64, "-9223372036854775808", minus(i64::MIN)),
            (Kind::Int64, "9007199254740993.0", Ok(9_007_199_254_740_993)),
            (Kind::Int64, "12000e-3", Ok(12)),
            (Kind::Int64, "0e99999999999", Ok(0)),
            (Kind::Int64, "-0", Ok(0)),
            (Kind::Uint64, "18446744073709551615", Ok(u64::MAX)),
            (Kind::Sint32, "-1", Ok(1)),
            (Kind::Sint64, "9223372036854775807", Ok(u64::MAX - 1)),
            (Kind::Double, "0.1", Ok(0.1_f64.to_bits())),
            (Kind::Float, "-Infinity", Ok(f32::NEG_INFINITY.to_bits().into())),
            (Kind::Bool, "true", Ok(1)),
        ] {
            assert_eq!(from_text(kind, text), expected, "{kind:?} {text}");
        }
        for (kind, text) in [
            (Kind::Int32, "2147483648"),
            (Kind::Uint32, "-1"),
            (Kind::Uint64, "18446744073709551616"),
            (Kind::Int32, "1.5"),
            (Kind::Int32, "1e-1"),
            (Kind::Int32, "+1"),
            (Kind::Int32, ""),
            (Kind::Int32, " 1"),
            (Kind::Int32, "01"),
            (Kind::Int64, "1e400"),
            (Kind::Int64, "1e99999999999999999999"),
            (Kind::Double, "inf"),
            (Kind::Double, "nan"),
            (Kind::Double, "1e400"),
            (Kind::Float, "1e39"),
            (Kind::Double, "1."),
            (Kind::Bool, "1"),
        ] {
            assert!(from_text(kind, text).is_err(), "{kind:?} {text:?}");
        }
    }

    #[test]
    fn both_base64_alphabets_with_and_without_padding() {
        for text in ["+/8=", "+/8", "-_8=", "-_8"] {
            let mut out = vec![];
            assert!(put_base64(text, &mut out));
            assert_eq!(out, [0xfb, 0xff], "{text}");
        }
        assert!(!put_base64("%", &mut vec![]));
    }
}
