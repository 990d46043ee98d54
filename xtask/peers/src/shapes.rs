//! The fixed set of messages, one of each shape.

use std::collections::HashMap;

use pbjson_types::{Duration, Struct, Timestamp, Value, value::Kind};

use crate::typed::{Blob, Deep, Doubles, Hit, Integers, Known, Maps, Search, State, Text, Token, Wide};

const WORDS: &str =
    "The gateway compiles the descriptors when it starts and serves each method by its annotations ";

pub(crate) fn token() -> Token {
    Token { text: " annotations".into(), index: 417, log_probability: -0.302_734_38 }
}

pub(crate) fn search() -> Search {
    let hit = |number: i64| Hit {
        document_id: format!("docs/guides/streaming-{number}.md"),
        revision: 1_700_000_000_000 + number,
        title: format!("Streaming answers, part {number}"),
        uri: format!("https://example.com/docs/guides/streaming-{number}"),
        passage: WORDS.repeat(3),
        score: 0.912_345_678_9 / (number + 1) as f64,
        fresh: number % 2 == 0,
        state: State::Published.into(),
        tags: vec!["guide".into(), "streaming".into()],
    };
    Search { hits: (0..6).map(hit).collect(), total: 6 }
}

pub(crate) fn wide() -> Wide {
    Wide {
        f1: -42,
        f2: 9_007_199_254_740_993,
        f3: 4_000_000_000,
        f4: u64::MAX,
        f5: -7,
        f6: -1_234_567_890_123,
        f7: 99,
        f8: 1 << 40,
        f9: true,
        f10: "short".into(),
        f11: 1.234_567_890_123_456,
        f12: 2.5,
        customer_number: "C-2026-000417".into(),
        first_name: "Zoë".into(),
        last_name: "Müller-Lüdenscheidt".into(),
        street: "12 Long Street".into(),
        city: "Aarhus".into(),
        postal_code: 8000,
        state: State::Draft.into(),
        active: true,
        balance_cents: -12_500,
        visits: 17,
        email: "zoe@example.com".into(),
        phone: "+45 12 34 56 78".into(),
    }
}

pub(crate) fn deep() -> Deep {
    let leaf = Deep { name: "leaf".into(), level: 24, child: None };
    (1..24).rev().fold(leaf, |child, level| Deep {
        name: format!("level {level}"),
        level,
        child: Some(Box::new(child)),
    })
}

pub(crate) fn maps() -> Maps {
    let names = || (0..24).map(|number| format!("service.region-{number}.requests"));
    Maps {
        labels: names().map(|name| (name.clone(), format!("value of {name}"))).collect(),
        counters: names().zip(1_000_000..).collect(),
        tokens: (0..8).map(|number| (number, token())).collect(),
    }
}

pub(crate) fn doubles() -> Doubles {
    Doubles { values: (0..384).map(|number| (f64::from(number) * 0.37).sin() / 3.0).collect() }
}

pub(crate) fn integers() -> Integers {
    Integers { values: (0..512).map(|number| number * number % 10_007 - 5_000).collect() }
}

pub(crate) fn text() -> Text {
    Text {
        plain: WORDS.repeat(40),
        lines: "fn main() {\n\tprintln!(\"hello, \\\"world\\\"\");\n}\n".repeat(30),
        wide: "Übergrößenträger 日本語のテキスト – ".repeat(40),
    }
}

pub(crate) fn blob() -> Blob {
    Blob {
        name: "image.png".into(),
        data: (0..4096_u32).map(|at| ((at * 31) >> 3) as u8).collect::<Vec<_>>(),
    }
}

pub(crate) fn known() -> Known {
    let at = |seconds, nanos| Some(Timestamp { seconds, nanos });
    let extra = HashMap::from([
        ("model".to_owned(), Value { kind: Some(Kind::StringValue("small".into())) }),
        ("temperature".to_owned(), Value { kind: Some(Kind::NumberValue(0.2)) }),
        ("stream".to_owned(), Value { kind: Some(Kind::BoolValue(true)) }),
    ]);
    Known {
        created: at(1_767_323_045, 0),
        updated: at(1_767_409_445, 123_000_000),
        elapsed: Some(Duration { seconds: 3, nanos: 250_000_000 }),
        count: Some(12_345_678_901.into()),
        note: Some("checked by two people".to_owned().into()),
        done: Some(true.into()),
        extra: Some(Struct { fields: extra }),
        visits: (0..6).filter_map(|day| at(1_767_323_045 + day * 86_400, 500_000)).collect(),
    }
}
