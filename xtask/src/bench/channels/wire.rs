//! The messages of `hybrid.channels.v1` that load clients and tests need, written down by hand: a second reading of the
//! contract, so that a mistake of the gateway's own encoder does not cancel out. One set of types for both encodings.

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

/// How a connection's messages are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Text frames.
    Json,
    /// Binary frames.
    Protobuf,
}

/// What a client sends at once.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct ClientFrame {
    /// Carried out in this order.
    #[prost(message, repeated, tag = "1")]
    pub commands: Vec<Command>,
}

/// Something that a client asks for.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct Command {
    /// Named again in the reply; 0: none is wanted.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// What is asked for.
    #[prost(oneof = "Ask", tags = "2, 3, 4, 5, 6, 8, 9, 10")]
    #[serde(flatten)]
    pub ask: Option<Ask>,
}

/// The kinds of commands.
#[derive(Clone, PartialEq, prost::Oneof, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named as in the contract, which says what they are")]
pub enum Ask {
    #[prost(message, tag = "2")]
    Connect(Connect),
    #[prost(message, tag = "3")]
    Subscribe(Subscribe),
    #[prost(message, tag = "4")]
    Unsubscribe(Channel),
    #[prost(message, tag = "5")]
    Publish(Publish),
    #[prost(message, tag = "6")]
    Call(Call),
    #[prost(message, tag = "8")]
    History(HistoryQuery),
    #[prost(message, tag = "9")]
    Ping(Empty),
    #[prost(message, tag = "10")]
    Refresh(Refresh),
}

macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field:meta])* $member:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        #[allow(missing_docs, reason = "named as in the contract, which says what they are")]
        pub struct $name { $($(#[$field])* pub $member: $type,)* }
    )*};
}

messages! {
    /// Nothing.
    Empty {}
    /// Opens a session, or resumes one.
    Connect {
        #[prost(string, tag = "1")] token: String,
        #[prost(string, tag = "2")] ticket: String,
        #[prost(message, repeated, tag = "3")] resume: Vec<Subscribe>,
        #[prost(string, tag = "4")] client: String,
    }
    /// Receive what is published to a channel; and, with the same fields, a subscription to go on with.
    Subscribe {
        #[prost(string, tag = "1")] channel: String,
        #[prost(message, optional, tag = "2")] #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<Position>,
    }
    /// A channel's name alone.
    Channel {
        #[prost(string, tag = "1")] channel: String,
    }
    /// Publish to a channel.
    Publish {
        #[prost(string, tag = "1")] channel: String,
        #[prost(message, optional, tag = "2")] data: Option<Payload>,
        #[prost(string, tag = "3")] key: String,
        #[prost(string, tag = "4")] latest_key: String,
    }
    /// Ask the application.
    Call {
        #[prost(string, tag = "1")] method: String,
        #[prost(message, optional, tag = "2")] data: Option<Payload>,
        #[prost(bool, tag = "3")] idempotent: bool,
    }
    /// What was published, a page at a time.
    HistoryQuery {
        #[prost(string, tag = "1")] channel: String,
        #[prost(message, optional, tag = "2")] #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<Position>,
        #[prost(uint32, tag = "3")] limit: u32,
    }
    /// A new access token.
    Refresh {
        #[prost(string, tag = "1")] token: String,
    }
    /// A place in a channel's history.
    Position {
        #[prost(string, tag = "1")] epoch: String,
        #[prost(uint64, tag = "2")] #[serde(with = "number")] offset: u64,
    }
    /// What the gateway sends at once.
    ServerFrame {
        #[prost(message, repeated, tag = "1")] messages: Vec<ServerMessage>,
    }
    /// A session is open.
    Connected {
        #[prost(string, tag = "1")] session: String,
        #[prost(message, optional, tag = "2")] ticket: Option<Ticket>,
        #[prost(bool, tag = "3")] resumed: bool,
        #[prost(message, repeated, tag = "4")] subscriptions: Vec<Subscribed>,
        #[prost(uint32, tag = "5")] heartbeat_ms: u32,
    }
    /// What lets a client resume its session.
    Ticket {
        #[prost(string, tag = "1")] ticket: String,
        #[prost(uint32, tag = "2")] expires_in_ms: u32,
    }
    /// A subscription stands, or does not.
    Subscribed {
        #[prost(string, tag = "1")] channel: String,
        #[prost(message, optional, tag = "3")] position: Option<Position>,
        #[prost(bool, tag = "4")] recovered: bool,
        #[prost(message, repeated, tag = "5")] publications: Vec<Publication>,
        #[prost(bool, tag = "6")] more: bool,
        #[prost(message, optional, tag = "8")] error: Option<Error>,
    }
    /// A subscription has ended.
    Unsubscribed {
        #[prost(string, tag = "1")] channel: String,
        #[prost(message, optional, tag = "2")] error: Option<Error>,
    }
    /// A publication was accepted.
    Published {
        #[prost(message, optional, tag = "1")] position: Option<Position>,
        #[prost(bool, tag = "2")] duplicate: bool,
        #[prost(message, optional, tag = "3")] data: Option<Payload>,
    }
    /// The application's answer.
    CallResult {
        #[prost(message, optional, tag = "1")] data: Option<Payload>,
    }
    /// A page of history.
    HistoryPage {
        #[prost(message, repeated, tag = "1")] publications: Vec<Publication>,
        #[prost(message, optional, tag = "2")] top: Option<Position>,
        #[prost(bool, tag = "3")] found: bool,
        #[prost(bool, tag = "4")] more: bool,
    }
    /// What was published to a channel.
    Publications {
        #[prost(string, tag = "1")] channel: String,
        #[prost(message, repeated, tag = "2")] publications: Vec<Publication>,
    }
    /// Something published.
    Publication {
        #[prost(uint64, tag = "1")] #[serde(with = "number")] offset: u64,
        #[prost(uint64, tag = "2")] #[serde(with = "number")] previous: u64,
        #[prost(message, optional, tag = "3")] data: Option<Payload>,
        #[prost(string, tag = "4")] latest_key: String,
        #[prost(bool, tag = "5")] removed: bool,
        #[prost(string, tag = "6")] sender: String,
    }
    /// Expects a ping in return.
    Heartbeat {
        #[prost(message, repeated, tag = "1")] tops: Vec<ChannelTop>,
    }
    /// The newest place of a channel.
    ChannelTop {
        #[prost(string, tag = "1")] channel: String,
        #[prost(message, optional, tag = "2")] top: Option<Position>,
    }
    /// The gateway ends this connection now.
    Closing {
        #[prost(int32, tag = "1")] #[serde(deserialize_with = "named")] code: i32,
        #[prost(string, tag = "2")] message: String,
        #[prost(uint32, tag = "3")] retry_after_ms: u32,
    }
    /// What went wrong.
    Error {
        #[prost(int32, tag = "1")] #[serde(deserialize_with = "named")] code: i32,
        #[prost(string, tag = "2")] message: String,
        #[prost(uint32, tag = "3")] retry_after_ms: u32,
        #[prost(string, tag = "4")] reason: String,
    }
}

/// A reply, or something that happened.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerMessage {
    /// Of the command; 0: a push.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// What is said.
    #[prost(oneof = "Said", tags = "2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15")]
    #[serde(flatten)]
    pub said: Option<Said>,
}

/// The kinds of what the gateway says.
#[derive(Clone, PartialEq, prost::Oneof, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "named as in the contract, which says what they are")]
pub enum Said {
    #[prost(message, tag = "2")]
    Error(Error),
    #[prost(message, tag = "3")]
    Connected(Connected),
    #[prost(message, tag = "4")]
    Subscribed(Subscribed),
    #[prost(message, tag = "5")]
    Unsubscribed(Unsubscribed),
    #[prost(message, tag = "6")]
    Published(Published),
    #[prost(message, tag = "7")]
    Result(CallResult),
    #[prost(message, tag = "9")]
    History(HistoryPage),
    #[prost(message, tag = "10")]
    Pong(Empty),
    #[prost(message, tag = "11")]
    Ticket(Ticket),
    #[prost(message, tag = "12")]
    Publications(Publications),
    #[prost(message, tag = "14")]
    Heartbeat(Heartbeat),
    #[prost(message, tag = "15")]
    Closing(Closing),
}

/// Application data that is a JSON value; binary data is not used here.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    /// The value as text.
    #[prost(string, tag = "1")]
    pub json: String,
}

impl Payload {
    /// A value.
    pub fn of(value: &Value) -> Option<Self> {
        Some(Self { json: value.to_string() })
    }

    /// The value.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.json).unwrap_or(Value::Null)
    }
}

// In the JSON encoding the value stands for itself, not inside a string.
impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::json!({"json": self.value()}).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let json = value.get("json").ok_or_else(|| D::Error::custom("a payload without json"))?;
        Ok(Self { json: json.to_string() })
    }
}

impl Encoding {
    /// The WebSocket's subprotocol.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "hybrid.channels.v1.json",
            Self::Protobuf => "hybrid.channels.v1.proto",
        }
    }

    /// A frame of commands.
    pub fn encode(self, commands: Vec<Command>) -> Vec<u8> {
        let frame = ClientFrame { commands };
        match self {
            Self::Json => serde_json::to_vec(&frame).unwrap_or_default(),
            Self::Protobuf => prost::Message::encode_to_vec(&frame),
        }
    }

    /// What a frame says.
    pub fn decode(self, frame: &[u8]) -> Result<Vec<ServerMessage>> {
        let frame: ServerFrame = match self {
            Self::Json => serde_json::from_slice(frame)
                .with_context(|| format!("no JSON frame: {}", String::from_utf8_lossy(frame)))?,
            Self::Protobuf => prost::Message::decode(frame).context("no protobuf frame")?,
        };
        Ok(frame.messages)
    }
}

/// 64-bit numbers are strings in protobuf's JSON.
mod number {
    use super::*;

    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => text.parse().map_err(D::Error::custom),
            other => other.as_u64().ok_or_else(|| D::Error::custom(format!("{other} is no offset"))),
        }
    }
}

/// Names of error codes, by number.
const ERRORS: [&str; 12] = [
    "UNSPECIFIED",
    "INVALID",
    "UNAUTHENTICATED",
    "EXPIRED",
    "PERMISSION_DENIED",
    "NOT_FOUND",
    "CONFLICT",
    "LIMIT_EXCEEDED",
    "RATE_LIMITED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "INTERNAL",
];
/// Names of close codes with their numbers.
const CLOSES: [(&str, i32); 10] = [
    ("DRAINING", 4000),
    ("SLOW", 4001),
    ("SILENT", 4002),
    ("EXPIRED", 4003),
    ("OVERLOADED", 4004),
    ("FLOOD", 4005),
    ("REPLACED", 4500),
    ("BAD_FRAME", 4501),
    ("REFUSED", 4502),
    ("REVOKED", 4503),
];

/// Enum values are names in protobuf's JSON.
fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let unknown = || D::Error::custom(format!("{value} is no code"));
    let Some(name) = value.as_str() else {
        return value.as_i64().and_then(|code| code.try_into().ok()).ok_or_else(unknown);
    };
    if let Some(name) = name.strip_prefix("ERROR_CODE_") {
        return ERRORS.iter().position(|known| *known == name).map(|code| code as i32).ok_or_else(unknown);
    }
    let name = name.strip_prefix("CLOSE_CODE_").unwrap_or_default();
    CLOSES.iter().find(|(known, _)| *known == name).map(|(_, code)| *code).ok_or_else(unknown)
}

impl Error {
    /// The code's name without its prefix.
    pub fn name(&self) -> &'static str {
        usize::try_from(self.code).ok().and_then(|code| ERRORS.get(code).copied()).unwrap_or("?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings_say_the_same() {
        let publish = Publish {
            channel: "chat:lobby".into(),
            data: Payload::of(&serde_json::json!({"text": "hi"})),
            key: "k1".into(),
            ..Publish::default()
        };
        let commands = vec![Command { id: 7, ask: Some(Ask::Publish(publish)) }];
        let json: Value = serde_json::from_slice(&Encoding::Json.encode(commands.clone())).expect("JSON");
        assert_eq!(json["commands"][0]["publish"]["data"]["json"]["text"], "hi");
        assert_eq!(json["commands"][0]["id"], 7);
        let back: ClientFrame =
            prost::Message::decode(&*Encoding::Protobuf.encode(commands.clone())).expect("protobuf");
        assert_eq!(back.commands, commands);
    }

    #[test]
    fn protobufs_json_is_read() {
        let text = br#"{"messages":[{"publications":{"channel":"a:b","publications":[
            {"offset":"12","previous":"9","data":{"json":[1]},"timeMs":"5"}]}},
            {"id":3,"error":{"code":"ERROR_CODE_NOT_FOUND","message":"x"}},
            {"closing":{"code":"CLOSE_CODE_DRAINING","retryAfterMs":20}}]}"#;
        let messages = Encoding::Json.decode(text).expect("a frame");
        let Some(Said::Publications(pushed)) = &messages[0].said else { panic!("{messages:?}") };
        let publication = &pushed.publications[0];
        assert_eq!((publication.offset, publication.previous), (12, 9));
        assert_eq!(publication.data.as_ref().map(Payload::value), Some(serde_json::json!([1])));
        let Some(Said::Error(error)) = &messages[1].said else { panic!("{messages:?}") };
        assert_eq!((messages[1].id, error.name()), (3, "NOT_FOUND"));
        let Some(Said::Closing(closing)) = &messages[2].said else { panic!("{messages:?}") };
        assert_eq!((closing.code, closing.retry_after_ms), (4000, 20));
    }

    #[test]
    fn the_numbers_are_those_of_the_contract() {
        let file = std::fs::read_to_string(crate::root().join("proto/hybrid/channels/v1/client.proto"))
            .expect("the contract");
        for (code, name) in ERRORS.iter().enumerate() {
            assert!(file.contains(&format!("ERROR_CODE_{name} = {code};")), "{name}");
        }
        for (name, code) in CLOSES {
            assert!(file.contains(&format!("CLOSE_CODE_{name} = {code};")), "{name}");
        }
    }
}
