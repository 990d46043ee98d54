//! The two encodings say the same, spliced or not, and what is malformed is named.

use super::*;
use crate::proto::{
    Call, CallResult, ChannelKind, ChannelTop, ClientFrame, Closing, Command, Connect, Connected, Error,
    Heartbeat, HistoryPage, HistoryQuery, Limits, Member, Ping, Pong, Position, PresenceChange, PresenceList,
    PresenceQuery, Publication, Publications, Publish, Published, Refresh, Resume, ServerFrame,
    ServerMessage, Subscribe, Subscribed, Ticket, Unsubscribe, Unsubscribed,
};
use crate::testing::{random::Random, unframe};

impl Random {
    fn text(&mut self) -> String {
        ["", "a", "chat:lobby", "ü€😀", "\"\\\n\u{0}</script>", "x".repeat(200).as_str()][self.below(6)]
            .into()
    }

    fn number(&mut self) -> u64 {
        [0, 1, 127, 128, u64::from(u32::MAX), (1 << 53) + 1, u64::MAX][self.below(7)]
    }

    fn small(&mut self) -> u32 {
        [0, 1, 300, u32::MAX][self.below(4)]
    }

    fn flag(&mut self) -> bool {
        self.chance(2)
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.flag() { Some(make(self)) } else { None }
    }

    fn some<T>(&mut self, make: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.below(3)).map(|_| make(self)).collect()
    }

    fn payload(&mut self) -> Payload {
        let json =
            ["null", "1.50", "{\"a\":[true,{}]}", "\"\\u00fc\"", "[ 1 , 2 ]", "12345678901234567890123"];
        match self.below(8) {
            0 => Payload::binary(vec![0, 255, 10, 13]),
            1 => Payload::binary(vec![]),
            index => Payload::json(json[index - 2]),
        }
    }

    fn position(&mut self) -> Position {
        Position { epoch: self.text(), offset: self.number() }
    }

    fn publication(&mut self) -> Publication {
        Publication {
            offset: self.number(),
            previous: self.number(),
            data: self.maybe(Self::payload),
            latest_key: self.text(),
            removed: self.flag(),
            sender: self.text(),
            time_ms: self.number(),
        }
    }

    fn error(&mut self) -> Error {
        Error {
            code: self.below(12) as i32,
            message: self.text(),
            retry_after_ms: self.small(),
            reason: self.text(),
        }
    }

    fn member(&mut self) -> Member {
        Member { session: self.text(), subject: self.text(), data: self.maybe(Self::payload) }
    }

    fn ticket(&mut self) -> Ticket {
        Ticket { ticket: self.text(), expires_in_ms: self.small() }
    }

    fn subscribed(&mut self) -> Subscribed {
        Subscribed {
            channel: self.text(),
            kind: ChannelKind::try_from(self.below(4) as i32).unwrap_or_default().into(),
            position: self.maybe(Self::position),
            recovered: self.flag(),
            publications: self.some(Self::publication),
            more: self.flag(),
            data: self.maybe(Self::payload),
            error: self.maybe(Self::error),
        }
    }

    fn connected(&mut self) -> Connected {
        Connected {
            session: self.text(),
            ticket: self.maybe(Self::ticket),
            resumed: self.flag(),
            subscriptions: self.some(Self::subscribed),
            heartbeat_ms: self.small(),
            limits: self.maybe(|r| Limits {
                channels: r.small(),
                frame_bytes: r.small(),
                ..Limits::default()
            }),
            data: self.maybe(Self::payload),
        }
    }

    fn command(&mut self) -> Command {
        use command::Kind;
        let kind = match self.below(10) {
            0 => Kind::Connect(Connect {
                token: self.text(),
                ticket: self.text(),
                resume: self.some(|r| Resume { channel: r.text(), from: r.maybe(Self::position) }),
                client: self.text(),
                data: self.maybe(Self::payload),
            }),
            1 => Kind::Subscribe(Subscribe {
                channel: self.text(),
                from: self.maybe(Self::position),
                data: self.maybe(Self::payload),
            }),
            2 => Kind::Unsubscribe(Unsubscribe { channel: self.text() }),
            3 => Kind::Publish(Publish {
                channel: self.text(),
                data: self.maybe(Self::payload),
                key: self.text(),
                latest_key: self.text(),
            }),
            4 => Kind::Call(Call {
                method: self.text(),
                data: self.maybe(Self::payload),
                idempotent: self.flag(),
            }),
            5 => Kind::Presence(PresenceQuery { channel: self.text() }),
            6 => Kind::History(HistoryQuery {
                channel: self.text(),
                from: self.maybe(Self::position),
                limit: self.small(),
            }),
            7 => Kind::Ping(Ping {}),
            _ => Kind::Refresh(Refresh { token: self.text() }),
        };
        Command { id: self.small(), kind: Some(kind) }
    }

    fn message(&mut self) -> ServerMessage {
        use server_message::Kind;
        let kind = match self.below(15) {
            0 => Kind::Error(self.error()),
            1 => Kind::Connected(self.connected()),
            2 => Kind::Subscribed(self.subscribed()),
            3 => Kind::Unsubscribed(Unsubscribed { channel: self.text(), error: self.maybe(Self::error) }),
            4 => Kind::Published(Published {
                position: self.maybe(Self::position),
                duplicate: self.flag(),
                data: self.maybe(Self::payload),
            }),
            5 => Kind::Result(CallResult { data: self.maybe(Self::payload) }),
            6 => Kind::Presence(PresenceList { members: self.some(Self::member), total: self.small() }),
            7 => Kind::History(HistoryPage {
                publications: self.some(Self::publication),
                top: self.maybe(Self::position),
                found: self.flag(),
                more: self.flag(),
            }),
            8 => Kind::Pong(Pong {}),
            9 => Kind::Ticket(self.ticket()),
            10 => Kind::Publications(Publications {
                channel: self.text(),
                publications: self.some(Self::publication),
            }),
            11 => Kind::PresenceChange(PresenceChange {
                channel: self.text(),
                joined: self.some(Self::member),
                left: self.some(Self::text),
            }),
            12 => Kind::Heartbeat(Heartbeat {
                tops: self.some(|r| ChannelTop { channel: r.text(), top: r.maybe(Self::position) }),
            }),
            _ => Kind::Closing(Closing { code: 4000, message: self.text(), retry_after_ms: self.small() }),
        };
        ServerMessage { id: self.small(), kind: Some(kind) }
    }
}

const WIRES: [Wire; 3] = [Wire::WebSocketJson, Wire::WebSocketProtobuf, Wire::EventStream];

/// Publications, when spliced, are what they were before.
fn written(wire: Wire, message: &ServerMessage) -> ServerFrame {
    use server_message::Kind;
    let entries = |publications: &[Publication]| publications.iter().map(Entry::new).collect::<Vec<_>>();
    let id = message.id;
    let bytes = match message.kind.as_ref().expect("a kind") {
        Kind::Publications(Publications { channel, publications }) => {
            write(wire, &Body::Publications { channel, entries: &entries(publications) })
        }
        Kind::Subscribed(head) => {
            let entries = entries(&head.publications);
            let head = &Subscribed { publications: vec![], ..head.clone() };
            write(wire, &Body::Subscribed { id, head, entries: &entries })
        }
        Kind::History(head) => {
            let entries = entries(&head.publications);
            let head = &HistoryPage { publications: vec![], ..head.clone() };
            write(wire, &Body::History { id, head, entries: &entries })
        }
        Kind::Connected(head) => {
            let split = |head: &Subscribed| {
                (Subscribed { publications: vec![], ..head.clone() }, entries(&head.publications))
            };
            let subscriptions: Vec<_> = head.subscriptions.iter().map(split).collect();
            let head = &Connected { subscriptions: vec![], ..head.clone() };
            write(wire, &Body::Connected { id, head, subscriptions: &subscriptions })
        }
        _ => write(wire, &Body::Message(message)),
    };
    unframe(wire, &bytes)
}

#[test]
fn what_the_hub_writes_reads_the_same_on_every_wire() {
    for seed in 0..3_000 {
        let mut message = Random::new(seed).message();
        if matches!(message.kind, Some(server_message::Kind::Publications(_))) {
            message.id = 0;
        }
        for wire in WIRES {
            assert_eq!(written(wire, &message).messages, [message.clone()], "seed {seed}, {wire:?}");
        }
    }
}

#[test]
fn what_clients_write_reads_the_same_in_both_encodings() {
    for seed in 0..3_000 {
        let mut random = Random::new(seed);
        let frame = ClientFrame { commands: random.some(Random::command) };
        let json = serde_json::to_vec(&frame).expect("JSON");
        assert_eq!(read(Wire::WebSocketJson, &json).as_ref(), Ok(&frame), "seed {seed}");
        assert_eq!(read(Wire::WebSocketProtobuf, &frame.encode_to_vec()).as_ref(), Ok(&frame), "seed {seed}");
    }
}

#[test]
fn json_takes_numbers_or_strings_unknown_fields_and_any_value_as_it_is() {
    let text = br#"{"future":1,"commands":[{"id":7,"soon":[{}],"publish":{"channel":"chat:a",
        "data":{"json": {"b":1.0,"a":[ 1]} ,"later":null},"latestKey":"k"}},
        {"subscribe":{"channel":"chat:a","from":{"epoch":"e","offset":5}}},
        {"subscribe":{"channel":"chat:a","from":{"epoch":"e","offset":"18446744073709551615"}}}]}"#;
    let frame = read(Wire::WebSocketJson, text).expect("it can be read");
    let Some(command::Kind::Publish(publish)) = &frame.commands[0].kind else { panic!("{frame:?}") };
    assert_eq!(publish.data, Some(Payload::json(r#"{"b":1.0,"a":[ 1]}"#)));
    assert_eq!(publish.latest_key, "k");
    let offset = |index: usize| match &frame.commands[index].kind {
        Some(command::Kind::Subscribe(subscribe)) => subscribe.from.as_ref().map(|from| from.offset),
        other => panic!("{other:?}"),
    };
    assert_eq!((offset(1), offset(2)), (Some(5), Some(u64::MAX)));
}

#[test]
fn sixty_four_bit_numbers_are_written_as_strings() {
    let message = ServerMessage {
        id: 1,
        kind: Some(server_message::Kind::Published(Published {
            position: Some(Position { epoch: "e".into(), offset: 5 }),
            ..Published::default()
        })),
    };
    let bytes = write(Wire::EventStream, &Body::Message(&message));
    let expected = "event: message\ndata: {\"messages\":[{\"id\":1,\"published\":{\"position\":\
                    {\"epoch\":\"e\",\"offset\":\"5\"}}}]}\n\n";
    assert_eq!(std::str::from_utf8(&bytes), Ok(expected));
}

#[test]
fn what_is_malformed_is_named() {
    let json = |text: &str| read(Wire::WebSocketJson, text.as_bytes()).expect_err(text);
    for (text, part) in [
        ("", "EOF"),
        ("[]", "ClientFrame"),
        (r#"{"commands":[{"id":"x"}]}"#, "line 1"),
        (r#"{"commands":[{"id":-1}]}"#, "line 1"),
        (r#"{"commands":[{"publish":{"data":{"json":1,"binary":"AA=="}}}]}"#, "either json or binary"),
        (r#"{"commands":[{"publish":{"data":{"binary":"?"}}}]}"#, "Invalid symbol"),
        (r#"{"commands":[{"ping":{},"refresh":{}}]}"#, "line 1"),
    ] {
        assert!(json(text).contains(part), "{text}: {}", json(text));
    }
    assert!(read(Wire::WebSocketJson, b"{\"commands\":[{\"publish\":{\"channel\":\"\xff\"}}]}").is_err());
    let protobuf = |bytes: &[u8]| read(Wire::WebSocketProtobuf, bytes).expect_err("malformed");
    assert!(protobuf(&[0x0a, 0x05, 0x01]).contains("not a frame in protobuf"));
    let data = Some(Payload::json("{no"));
    let publish = command::Kind::Publish(Publish { channel: "chat:a".into(), data, ..Publish::default() });
    let frame = ClientFrame { commands: vec![Command { id: 9, kind: Some(publish) }] };
    let error = protobuf(&frame.encode_to_vec());
    assert!(error.contains("command 9: data.json is not JSON"), "{error}");
}

/// A value is not looked into, so that no depth of it uses up a stack.
#[test]
fn a_deep_value_passes_as_it_is() {
    let deep = "[".repeat(30_000) + &"]".repeat(30_000);
    let text = format!(r#"{{"commands":[{{"publish":{{"data":{{"json":{deep}}},"unknown":{deep}}}}}]}}"#);
    let frame = read(Wire::WebSocketJson, text.as_bytes()).expect("it can be read");
    assert_eq!(data(&frame.commands[0]), Some(&Payload::json(deep.clone())));
    let bytes = read(Wire::WebSocketProtobuf, &frame.encode_to_vec());
    assert_eq!(bytes.as_ref(), Ok(&frame));
    let entry = Entry::new(&Publication { data: Some(Payload::json(deep)), ..Publication::default() });
    let body = Body::Publications { channel: "chat:a", entries: &[entry] };
    assert!(write(Wire::WebSocketJson, &body).len() > 60_000);
}
