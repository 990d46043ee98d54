//! The message types of `tests/shapes.proto`, each known to both sides: to the compiled plans, and to prost-reflect.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)] // Each user takes its part; panics are findings.

use std::{collections::BTreeMap, sync::LazyLock};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::Value;
use transcode::{Codec, Contract};

pub const SOURCE: &str = include_str!("../../tests/shapes.proto");
pub const NAMES: [&str; 5] = ["Everything", "Lists", "Maps", "Known", "Tree"];

pub struct Both {
    pub codec: Codec,
    pub descriptor: MessageDescriptor,
}

pub static TYPES: LazyLock<Vec<Both>> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("transcode-types-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("shapes.proto"), SOURCE).unwrap();
    let set = protox::compile(["shapes.proto"], [&folder]).unwrap().encode_to_vec();
    std::fs::remove_dir_all(folder).unwrap();
    let pool = DescriptorPool::decode(set.as_slice()).unwrap();
    let contract = Contract::from_sources(&BTreeMap::from([("shapes.proto", SOURCE)])).unwrap();
    let both = |name| {
        let name = format!("shapes.{name}");
        Both { codec: contract.message(&name).unwrap(), descriptor: pool.get_message_by_name(&name).unwrap() }
    };
    NAMES.map(both).into_iter().collect()
});

/// The JSON that prost-reflect writes.
pub fn theirs(message: &DynamicMessage) -> Option<Value> {
    let text = serde_json::to_string(message).ok()?;
    Some(serde_json::from_str(&text).unwrap())
}

/// The JSON that the plans write.
pub fn ours(codec: &Codec, bytes: &[u8]) -> Option<Value> {
    let mut json = b"kept".to_vec();
    match codec.to_json(bytes, &mut json) {
        Ok(()) => Some(serde_json::from_slice(&json[4..]).expect("what we write is JSON")),
        Err(_) => {
            assert_eq!(json, b"kept", "a failure leaves nothing behind");
            None
        }
    }
}
