//! Resumable streams: which field of a response names it (`hybrid.options.v1.event_id`), and which field of a request
//! says where to go on (`hybrid.options.v1.resume_from`). Both are read and written in the wire format directly.

use prost_reflect::{DescriptorPool, ExtensionDescriptor, FieldDescriptor};

use crate::{
    Codec, TranscodeError, Violation,
    from_json::scalar,
    plan::{FieldPlan, Kind, Shape},
    to_json::text,
    wire::{Malformed, Reader, put_delimited},
};

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
    pub(crate) fn event_id(&self, output: &Codec) -> Result<Option<IdField>, String> {
        marked(output, self.event_id.as_ref())
    }

    /// The field of a request that says where to go on.
    pub(crate) fn resume_from(&self, input: &Codec) -> Result<Option<IdField>, String> {
        marked(input, self.resume_from.as_ref())
    }
}

fn marked(codec: &Codec, option: Option<&ExtensionDescriptor>) -> Result<Option<IdField>, String> {
    let Some(option) = option else { return Ok(None) };
    let message = &codec.plan().descriptor;
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
    IdField::new(codec, &field).map_err(|problem| format!("{}: {problem}", option.full_name()))
}

/// A field whose value is an event's id.
#[derive(Debug)]
pub(crate) struct IdField {
    codec: Codec,
    place: usize,
}

impl IdField {
    fn new(codec: &Codec, field: &FieldDescriptor) -> Result<Option<Self>, String> {
        let Some(place) = codec.plan().place(field.number()) else { return Ok(None) };
        let plan = &codec.plan().fields[place];
        if !matches!(plan.kind, Kind::String) && !plan.kind.is_integer()
            || matches!(plan.shape, Shape::Map { .. })
        {
            return Err(format!("{} is neither a string nor an integer", field.full_name()));
        }
        if plan.shape != Shape::One {
            return Err(format!("{} is repeated", field.full_name()));
        }
        Ok(Some(Self { codec: codec.clone(), place }))
    }

    fn plan(&self) -> &FieldPlan {
        &self.codec.plan().fields[self.place]
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
            Some(Value::Number(raw)) => {
                text::integer_of(self.plan().kind, raw, out);
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
        let FieldPlan { kind, tag, name, .. } = self.plan();
        if *kind == Kind::String {
            put_delimited(tag, id.as_bytes(), message);
            return Ok(());
        }
        let raw = scalar::number_from_text(self.codec.plans(), *kind, id).map_err(|_| {
            let description = format!("expected an integer for {name}, found {id:?}");
            TranscodeError::Invalid(vec![Violation { field: "last-event-id".to_owned(), description }])
        })?;
        message.extend_from_slice(tag.bytes());
        scalar::put_number(*kind, raw, message);
        Ok(())
    }

    /// The field's last value, as protobuf says. A message that cannot be read has none: others report that.
    fn find<'a>(&self, message: &'a [u8]) -> Option<Value<'a>> {
        self.last(message).ok().flatten()
    }

    fn last<'a>(&self, message: &'a [u8]) -> Result<Option<Value<'a>>, Malformed> {
        let plan = self.plan();
        let (mut reader, mut found) = (Reader::new(message), None);
        while !reader.is_empty() {
            let tag = reader.tag()?;
            if tag != plan.tag.value() {
                reader.skip(tag, 0)?;
            } else if plan.kind == Kind::String {
                found = Some(Value::Text(reader.delimited()?));
            } else {
                found = Some(Value::Number(reader.number(tag & 7)?));
            }
        }
        Ok(found)
    }
}

enum Value<'a> {
    Text(&'a [u8]),
    /// As it is on the wire.
    Number(u64),
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
