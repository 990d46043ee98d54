//! The messages of `hybrid.channels.v1`, generated at build time, and their JSON form: protobuf's own mapping with one
//! exception, `Payload.json`, which holds the JSON value itself.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use pbjson::private::BytesDeserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/hybrid.channels.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/hybrid.channels.v1.serde.rs"));
}

pub use generated::*;

impl Payload {
    /// A payload that is a JSON value, as text; it is not checked here.
    pub fn json(text: impl Into<String>) -> Self {
        Self { kind: Some(payload::Kind::Json(text.into())) }
    }

    /// A payload of any bytes.
    pub fn binary(bytes: impl Into<prost::bytes::Bytes>) -> Self {
        Self { kind: Some(payload::Kind::Binary(bytes.into())) }
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(usize::from(self.kind.is_some())))?;
        match &self.kind {
            Some(payload::Kind::Json(text)) => {
                let value: &RawValue = serde_json::from_str(text).map_err(serde::ser::Error::custom)?;
                map.serialize_entry("json", value)?;
            }
            Some(payload::Kind::Binary(bytes)) => {
                map.serialize_entry("binary", &BASE64_STANDARD.encode(bytes))?
            }
            None => {}
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PayloadVisitor)
    }
}

struct PayloadVisitor;

impl<'de> Visitor<'de> for PayloadVisitor {
    type Value = Payload;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a payload: {\"json\": any value} or {\"binary\": base64}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Payload, A::Error> {
        let mut kind = None;
        while let Some(key) = map.next_key::<String>()? {
            let found = match key.as_str() {
                "json" => {
                    payload::Kind::Json(String::from(Box::<str>::from(map.next_value::<Box<RawValue>>()?)))
                }
                "binary" => payload::Kind::Binary(map.next_value::<BytesDeserialize<Vec<u8>>>()?.0.into()),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if kind.replace(found).is_some() {
                return Err(A::Error::custom("a payload has either json or binary, once"));
            }
        }
        Ok(Payload { kind })
    }
}
