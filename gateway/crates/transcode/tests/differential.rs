//! The compiled plans against prost-reflect's dynamic messages, on random messages of every kind of field: what one says
//! the other says, also where the wire's order is not the usual one, and where bytes are broken.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod random;
#[path = "../fuzz/src/types.rs"]
mod types;

use prost::Message;
use prost_reflect::DynamicMessage;
use random::Random;
use transcode::Unknown;
use types::{Both, TYPES, ours, theirs};

fn each_case(rounds: u64, mut check: impl FnMut(&Both, &mut Random)) {
    for seed in 0..rounds {
        for both in TYPES.iter() {
            check(both, &mut Random::new(seed));
        }
    }
}

#[test]
fn messages_become_the_same_json_and_come_back_unchanged() {
    each_case(1_000, |Both { codec, descriptor }, random| {
        let message = random.message(descriptor, 3);
        let bytes = message.encode_to_vec();
        let json = theirs(&message).expect("a message as it should be");
        assert_eq!(ours(codec, &bytes).as_ref(), Some(&json));
        let mut text = String::new();
        random.write_shuffled(&json, &mut text);
        let back = codec.from_json(text.as_bytes(), Unknown::Refused).unwrap();
        let back = DynamicMessage::decode(descriptor.clone(), back.as_slice()).unwrap();
        assert_eq!(theirs(&back), Some(json), "{text}");
    });
}

#[test]
fn messages_in_pieces_mean_the_same_as_merged_ones() {
    each_case(1_000, |Both { codec, descriptor }, random| {
        let mut bytes = vec![];
        for _ in 0..random.below(4) + 1 {
            bytes.extend(random.message(descriptor, 3).encode_to_vec());
        }
        let merged = DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).unwrap();
        assert_eq!(ours(codec, &bytes), theirs(&merged));
    });
}

#[test]
fn broken_bytes_are_errors_on_both_sides_or_mean_the_same() {
    each_case(2_000, |Both { codec, descriptor }, random| {
        let mut bytes = random.message(descriptor, 3).encode_to_vec();
        for _ in 0..random.below(4) + 1 {
            random.damage(&mut bytes);
        }
        // prost-reflect writes infinite wrappers as null and refuses an empty Any; broken bytes make such things.
        if descriptor.name() == "Known" {
            let _ = ours(codec, &bytes);
            return;
        }
        let decoded = DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).ok();
        assert_eq!(ours(codec, &bytes), decoded.as_ref().and_then(theirs), "{bytes:x?}");
    });
}

#[test]
fn damaged_json_is_refused_or_means_the_same() {
    each_case(1_000, |Both { codec, descriptor }, random| {
        let message = random.message(descriptor, 3);
        let mut text = serde_json::to_vec(&theirs(&message).unwrap()).unwrap();
        random.damage(&mut text);
        let Ok(bytes) = codec.from_json(&text, Unknown::Refused) else { return };
        let ours = DynamicMessage::decode(descriptor.clone(), bytes.as_slice()).unwrap();
        let mut reader = serde_json::Deserializer::from_slice(&text);
        let read = DynamicMessage::deserialize(descriptor.clone(), &mut reader).unwrap();
        assert_eq!(theirs(&ours), theirs(&read), "{}", String::from_utf8_lossy(&text));
    });
}
