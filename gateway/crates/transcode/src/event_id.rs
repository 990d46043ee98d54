//! Resumable streams: which field of a response names it (`hybrid.options.v1.event_id`), and which field of a request
//! says where to go on (`hybrid.options.v1.resume_from`). Both are read and written in the wire format directly.

use bytes::Buf;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field,
};
use prost_reflect::{DescriptorPool, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use crate::{TranscodeError, Violation};

const EVENT_ID: &str = "hybrid.options.v1.event_id";
const RESUME_FROM: &str = "hybrid.options.v1.resume_from";

/// Reads the two options; made once for a pool.
pub(crate) struct EventIdReader {
    event_id: Option<ExtensionDescriptor>,
    resume_from: Option<ExtensionDescriptor>,
}

impl EventIdReader {
    pub(crate) fn new(pool: &DescriptorPool) -> Self {
        let option = |name| pool.get_extension_by_name(name);
        Self { event_id: option(EVENT_ID), resume_from: option(RESUME_FROM) }
    }

    /// The field of a response that names it.
    pub(crate) fn event_id(&self, output: &MessageDescriptor) -> Result<Option<IdField>, String> {
        marked(output, self.event_id.as_ref())
    }

    /// The field of a request that says where to go on.
    pub(crate) fn resume_from(&self, input: &MessageDescriptor) -> Result<Option<IdField>, String> {
        marked(input, self.resume_from.as_ref())
    }
}

fn marked(
    message: &MessageDescriptor,
    option: Option<&ExtensionDescriptor>,
) -> Result<Option<IdField>, String> {
    let Some(option) = option else { return Ok(None) };
    let is_marked = |field: &FieldDescriptor| {
        let options = field.options();
        options.has_extension(option) && options.get_extension(option).as_bool() == Some(true)
    };
    let mut fields = message.fields().filter(is_marked);
    let Some(field) = fields.next() else { return Ok(None) };
    if let Some(second) = fields.next() {
        let (name, first) = (option.full_name(), field.name());
        return Err(format!("{} marks both {first} and {} as {name}", message.full_name(), second.name()));
    }
    IdField::new(&field).map(Some).map_err(|problem| format!("{}: {problem}", option.full_name()))
}

/// A field whose value is an event's id.
#[derive(Debug)]
pub(crate) struct IdField {
    number: u32,
    name: String,
    form: Form,
}

/// How the value is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Signed,
    Unsigned,
    ZigZag,
    Fixed32 { signed: bool },
    Fixed64 { signed: bool },
}

impl IdField {
    fn new(field: &FieldDescriptor) -> Result<Self, String> {
        let form = match field.kind() {
            Kind::String => Form::Text,
            Kind::Int32 | Kind::Int64 => Form::Signed,
            Kind::Uint32 | Kind::Uint64 => Form::Unsigned,
            Kind::Sint32 | Kind::Sint64 => Form::ZigZag,
            Kind::Fixed32 => Form::Fixed32 { signed: false },
            Kind::Sfixed32 => Form::Fixed32 { signed: true },
            Kind::Fixed64 => Form::Fixed64 { signed: false },
            Kind::Sfixed64 => Form::Fixed64 { signed: true },
            _ => return Err(format!("{} is neither a string nor an integer", field.full_name())),
        };
        if field.is_list() {
            return Err(format!("{} is repeated", field.full_name()));
        }
        Ok(Self { number: field.number(), name: field.name().to_owned(), form })
    }

    /// Appends the message's id as text. Without one, or where it cannot be in a line, nothing is appended: false.
    pub(crate) fn append(&self, message: &[u8], out: &mut Vec<u8>) -> bool {
        match self.find(message) {
            Some(Value::Text(text)) => {
                let fits = !text.is_empty() && !text.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0));
                if fits {
                    out.extend_from_slice(text);
                }
                fits
            }
            Some(Value::Number(number)) => {
                out.extend_from_slice(number.to_string().as_bytes());
                true
            }
            None => false,
        }
    }

    /// Appends the field to a request that does not have it. Protobuf lets fields come in any order.
    pub(crate) fn resume(&self, message: &mut Vec<u8>, id: &str) -> Result<(), TranscodeError> {
        if self.find(message).is_some() {
            return Ok(());
        }
        let invalid = || {
            let description = format!("expected an integer for {}, found {id:?}", self.name);
            TranscodeError::Invalid(vec![Violation { field: "last-event-id".to_owned(), description }])
        };
        if self.form == Form::Text {
            encode_key(self.number, WireType::LengthDelimited, message);
            encode_varint(id.len() as u64, message);
            message.extend_from_slice(id.as_bytes());
            return Ok(());
        }
        let number: i128 = id.parse().map_err(|_| invalid())?;
        let signed = || i64::try_from(number).map_err(|_| invalid());
        match self.form {
            Form::Fixed32 { signed } => {
                let bytes = if signed {
                    i32::try_from(number).map_err(|_| invalid())?.to_le_bytes()
                } else {
                    u32::try_from(number).map_err(|_| invalid())?.to_le_bytes()
                };
                encode_key(self.number, WireType::ThirtyTwoBit, message);
                message.extend_from_slice(&bytes);
            }
            Form::Fixed64 { signed: is_signed } => {
                let bytes = if is_signed {
                    signed()?.to_le_bytes()
                } else {
                    u64::try_from(number).map_err(|_| invalid())?.to_le_bytes()
                };
                encode_key(self.number, WireType::SixtyFourBit, message);
                message.extend_from_slice(&bytes);
            }
            form => {
                let varint = match form {
                    Form::ZigZag => {
                        let number = signed()?;
                        ((number << 1) ^ (number >> 63)).cast_unsigned()
                    }
                    Form::Signed => signed()?.cast_unsigned(),
                    _ => u64::try_from(number).map_err(|_| invalid())?,
                };
                encode_key(self.number, WireType::Varint, message);
                encode_varint(varint, message);
            }
        }
        Ok(())
    }

    /// The field's last value, as protobuf says. A message that cannot be read has none: others report that.
    fn find<'a>(&self, message: &'a [u8]) -> Option<Value<'a>> {
        let mut rest = message;
        let mut found = None;
        while rest.has_remaining() {
            let (number, wire_type) = decode_key(&mut rest).ok()?;
            if number != self.number {
                pass(wire_type, number, &mut rest)?;
                continue;
            }
            found = match (self.form, wire_type) {
                (Form::Text, WireType::LengthDelimited) => Some(Value::Text(take(&mut rest)?)),
                (Form::Signed | Form::Unsigned | Form::ZigZag, WireType::Varint) => {
                    Some(Value::Number(self.number_of(decode_varint(&mut rest).ok()?)))
                }
                (Form::Fixed32 { signed }, WireType::ThirtyTwoBit) => {
                    let number = rest.try_get_u32_le().ok()?;
                    Some(Value::Number(if signed { number.cast_signed().into() } else { number.into() }))
                }
                (Form::Fixed64 { signed }, WireType::SixtyFourBit) => {
                    let number = rest.try_get_u64_le().ok()?;
                    Some(Value::Number(if signed { number.cast_signed().into() } else { number.into() }))
                }
                _ => {
                    pass(wire_type, number, &mut rest)?;
                    found
                }
            };
        }
        found
    }

    fn number_of(&self, varint: u64) -> i128 {
        match self.form {
            Form::Signed => varint.cast_signed().into(),
            Form::ZigZag => i128::from((varint >> 1).cast_signed() ^ -((varint & 1).cast_signed())),
            _ => varint.into(),
        }
    }
}

enum Value<'a> {
    Text(&'a [u8]),
    Number(i128),
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
    let (value, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(value)
}

/// Passes over a field. Length-delimited ones without a copy.
fn pass(wire_type: WireType, number: u32, rest: &mut &[u8]) -> Option<()> {
    if wire_type == WireType::LengthDelimited {
        return take(rest).map(|_| ());
    }
    skip_field(wire_type, number, rest, DecodeContext::default()).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::{Contract, Matched, Routed};

    fn contract(id: &str, from: &str) -> Result<Contract, crate::LoadError> {
        let source = format!(
            r#"syntax = "proto3"; package t;
            import "google/api/annotations.proto"; import "hybrid/options/v1/stream.proto";
            service S {{ rpc Watch(Ask) returns (stream Tick) {{ option (google.api.http) = {{get: "/watch"}}; }} }}
            message Ask {{ string text = 1; {from} = 2 [(hybrid.options.v1.resume_from) = true]; }}
            message Tick {{ repeated string list = 1; {id} = 2 [(hybrid.options.v1.event_id) = true]; int32 x = 3; }}"#
        );
        Contract::from_sources(&BTreeMap::from([("t.proto", source)]))
    }

    fn matched(id: &str, from: &str) -> Matched {
        let contract = contract(id, from).unwrap();
        let Routed::Matched(matched) = contract.route(&http::Method::GET, "/watch") else { panic!() };
        matched
    }

    fn id(matched: &Matched, message: &[u8]) -> Option<String> {
        let mut out = vec![];
        matched.append_event_id(message, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_string_names_its_event_unless_it_would_break_the_line() {
        let text = matched("string id", "string after");
        assert_eq!(id(&text, b"\x0a\x01a\x12\x03e-1\x18\x01").as_deref(), Some("e-1"));
        assert_eq!(id(&text, b"\x12\x01a\x12\x01b").as_deref(), Some("b"), "the last one counts");
        for without in
            [&b""[..], b"\x12\x00", b"\x12\x03a\nb", b"\x12\x03a\rb", b"\x12\x03a\0b", b"\x12\x09a"]
        {
            assert_eq!(id(&text, without), None, "{without:?}");
        }
    }

    #[test]
    fn an_integer_of_any_kind_names_its_event() {
        for (kind, wire, expected) in [
            ("int64 id", &b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..], "-1"),
            ("uint64 id", b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "18446744073709551615"),
            ("sint32 id", b"\x10\x03", "-2"),
            ("fixed32 id", b"\x15\x07\0\0\0", "7"),
            ("sfixed64 id", b"\x11\xfe\xff\xff\xff\xff\xff\xff\xff", "-2"),
        ] {
            let from = kind.replace("id", "after");
            let matched = matched(kind, &from);
            assert_eq!(id(&matched, wire).as_deref(), Some(expected), "{kind}");
            let mut request = vec![];
            matched.resume(&mut request, expected).unwrap();
            assert_eq!(request, wire, "{kind}: the same value where to go on");
        }
    }

    #[test]
    fn where_to_go_on_yields_to_what_the_client_said() {
        let text = matched("string id", "string after");
        let mut request = text.encode_request(Some("text=a"), b"").unwrap();
        text.resume(&mut request, "e-1").unwrap();
        assert_eq!(request, b"\x0a\x01a\x12\x03e-1");
        let mut request = text.encode_request(Some("after=own"), b"").unwrap();
        text.resume(&mut request, "e-1").unwrap();
        assert_eq!(request, b"\x12\x03own");
        let error = matched("uint32 id", "uint32 after").resume(&mut vec![], "soon").unwrap_err();
        assert_eq!(error.violations()[0].field, "last-event-id");
    }

    #[test]
    fn an_id_that_is_no_string_or_integer_is_refused_by_name() {
        let error = contract("bytes id", "string after").unwrap_err().to_string();
        assert_eq!(
            error,
            "t.proto:3: t.S.Watch: hybrid.options.v1.event_id: t.Tick.id is neither a string nor an integer"
        );
        let error = contract("string id", "repeated string after").unwrap_err().to_string();
        assert_eq!(error, "t.proto:3: t.S.Watch: hybrid.options.v1.resume_from: t.Ask.after is repeated");
    }
}
