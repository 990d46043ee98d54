//! Single values: from JSON tokens and from the text of paths and queries to protobuf values.
//! An error is a description for a person; the caller knows the field.

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost_reflect::{DynamicMessage, EnumDescriptor, Kind, MessageDescriptor, Value};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// What a value of this kind looks like in JSON.
pub(crate) fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Double | Kind::Float => "a number".to_owned(),
        Kind::Bool => "true or false".to_owned(),
        Kind::String => "a string".to_owned(),
        Kind::Bytes => "a base64 string".to_owned(),
        Kind::Message(message) if has_text_form(kind) => format!("a {}", message.name()),
        Kind::Message(_) => "an object".to_owned(),
        Kind::Enum(_) => "an enum value's name".to_owned(),
        _ => "an integer".to_owned(),
    }
}

/// Whether a single text can stand for a value of this kind, as in a path or query.
pub(crate) fn has_text_form(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) => {
            is_wrapper(message)
                || matches!(
                    message.full_name(),
                    "google.protobuf.Timestamp" | "google.protobuf.Duration" | "google.protobuf.FieldMask"
                )
        }
        _ => true,
    }
}

fn is_wrapper(message: &MessageDescriptor) -> bool {
    message.package_name() == "google.protobuf" && message.name().ends_with("Value") && {
        let mut fields = message.fields();
        fields.len() == 1 && fields.next().is_some_and(|field| field.name() == "value" && !field.is_list())
    }
}

/// A value from the text of a path or query.
pub(crate) fn from_text(kind: &Kind, text: &str) -> Result<Value, String> {
    let mismatch = || format!("expected {}, found {text:?}", expected(kind));
    match kind {
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bytes => {
            let engine = if text.contains(['-', '_']) { BASE64_URL } else { BASE64 };
            engine.decode(text).map(|bytes| Value::Bytes(bytes.into())).map_err(|_| mismatch())
        }
        Kind::Bool => text.parse().map(Value::Bool).map_err(|_| mismatch()),
        Kind::Enum(descriptor) => match text.parse::<i32>() {
            Ok(number) => Ok(Value::EnumNumber(number)),
            Err(_) => from_enum_name(descriptor, text),
        },
        Kind::Double | Kind::Float => {
            let number = match text {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                // The shortest way to the nearest float32 is not by way of float64.
                _ if *kind == Kind::Float && is_number(text) => {
                    return match text.parse::<f32>() {
                        Ok(number) if number.is_finite() => Ok(Value::F32(number)),
                        _ => Err(format!("{text} is out of range")),
                    };
                }
                _ => is_number(text).then(|| text.parse().ok()).flatten(),
            };
            number.ok_or_else(mismatch).and_then(|number| from_f64(kind, number))
        }
        Kind::Message(descriptor) if is_wrapper(descriptor) => {
            let field = descriptor.get_field(1).ok_or_else(mismatch)?;
            let mut message = DynamicMessage::new(descriptor.clone());
            message.set_field(&field, from_text(&field.kind(), text)?);
            Ok(Value::Message(message))
        }
        Kind::Message(descriptor) => {
            let value = serde_json::Value::String(text.to_owned());
            DynamicMessage::deserialize(descriptor.clone(), value).map(Value::Message).map_err(|_| mismatch())
        }
        _ => match text.parse::<i128>() {
            Ok(number) if !text.starts_with('+') => from_integer(kind, number),
            // The protobuf JSON mapping allows 1e5 and 1.0 where the value is integral.
            _ if is_number(text) => from_f64(kind, text.parse().map_err(|_| mismatch())?),
            _ => Err(mismatch()),
        },
    }
}

/// A value from a JSON string.
pub(crate) fn from_json_string(kind: &Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Bool => Err(format!("expected {}, found a string", expected(kind))),
        Kind::Enum(descriptor) => from_enum_name(descriptor, text),
        _ => from_text(kind, text),
    }
}

/// A value from an integral JSON number.
pub(crate) fn from_integer(kind: &Kind, number: i128) -> Result<Value, String> {
    let range = |_| format!("{number} is out of range");
    #[expect(clippy::cast_precision_loss, reason = "JSON numbers are read as the nearest float")]
    match kind {
        Kind::Double => Ok(Value::F64(number as f64)),
        Kind::Float => Ok(Value::F32(number as f32)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => number.try_into().map(Value::I32).map_err(range),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => number.try_into().map(Value::I64).map_err(range),
        Kind::Uint32 | Kind::Fixed32 => number.try_into().map(Value::U32).map_err(range),
        Kind::Uint64 | Kind::Fixed64 => number.try_into().map(Value::U64).map_err(range),
        Kind::Enum(_) => number.try_into().map(Value::EnumNumber).map_err(range),
        _ => Err(format!("expected {}, found a number", expected(kind))),
    }
}

/// A value from a JSON number with a fraction or exponent.
pub(crate) fn from_f64(kind: &Kind, number: f64) -> Result<Value, String> {
    match kind {
        Kind::Double => Ok(Value::F64(number)),
        Kind::Float => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "rounding to float32 is what the field asks for"
            )]
            let narrow = number as f32;
            if number.is_finite() && narrow.is_infinite() {
                return Err(format!("{number:e} is out of range"));
            }
            Ok(Value::F32(narrow))
        }
        Kind::Bool | Kind::String | Kind::Bytes | Kind::Message(_) => {
            Err(format!("expected {}, found a number", expected(kind)))
        }
        _ if number.fract() != 0.0 => Err(format!("expected an integer, found {number}")),
        // Every integer field fits well inside; i128 makes the cast exact.
        _ if number.abs() < 1e30 =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "integral and in range, as checked")]
            from_integer(kind, number as i128)
        }
        _ => Err(format!("{number:e} is out of range")),
    }
}

fn from_enum_name(descriptor: &EnumDescriptor, name: &str) -> Result<Value, String> {
    if let Some(value) = descriptor.get_value_by_name(name) {
        return Ok(Value::EnumNumber(value.number()));
    }
    let names: Vec<String> = descriptor.values().take(20).map(|value| value.name().to_owned()).collect();
    Err(format!("expected one of {}, found {name:?}", names.join(", ")))
}

/// JSON's number grammar, roughly: Rust's parser also takes `inf`, `nan`, `+1` and blanks are refused by both.
fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_from_text() {
        assert_eq!(from_text(&Kind::Int32, "-2147483648"), Ok(Value::I32(i32::MIN)));
        assert_eq!(from_text(&Kind::Int64, "1e3"), Ok(Value::I64(1000)));
        assert_eq!(from_text(&Kind::Uint64, "18446744073709551615"), Ok(Value::U64(u64::MAX)));
        assert_eq!(from_text(&Kind::Double, "0.1"), Ok(Value::F64(0.1)));
        assert_eq!(from_text(&Kind::Float, "-Infinity"), Ok(Value::F32(f32::NEG_INFINITY)));
        for (kind, text) in [
            (Kind::Int32, "2147483648"),
            (Kind::Uint32, "-1"),
            (Kind::Uint64, "18446744073709551616"),
            (Kind::Int32, "1.5"),
            (Kind::Int32, "+1"),
            (Kind::Int32, ""),
            (Kind::Int32, " 1"),
            (Kind::Int64, "1e400"),
            (Kind::Double, "inf"),
            (Kind::Double, "nan"),
            (Kind::Float, "1e39"),
            (Kind::Double, "1."),
            (Kind::Bool, "1"),
            (Kind::Bytes, "%"),
        ] {
            assert!(from_text(&kind, text).is_err(), "{kind:?} {text:?}");
        }
    }

    #[test]
    fn both_base64_alphabets_with_and_without_padding() {
        for text in ["+/8=", "+/8", "-_8=", "-_8"] {
            assert_eq!(from_text(&Kind::Bytes, text), Ok(Value::Bytes(vec![0xfb, 0xff].into())), "{text}");
        }
    }
}
