//! The transcoder beside generated code, in one thread: wire bytes to JSON and back, alternating in short blocks.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use transcode::{Codec, Contract, Unknown};

use crate::shapes;

/// How long one side runs before it is the other's turn.
const BLOCK: Duration = Duration::from_millis(10);

pub(crate) fn run(rounds: usize, only: &str) -> Result<()> {
    let contract = Contract::from_descriptor_set(include_bytes!(concat!(env!("OUT_DIR"), "/bench.binpb")))?;
    let codec = |name: &str| contract.message(&format!("bench.{name}")).context("a message of the contract");
    macro_rules! measure {
        ($($name:literal $message:literal $shape:ident),*) => {$(
            if $name.contains(only) {
                measure($name, &codec($message)?, &shapes::$shape(), rounds)?;
            }
        )*};
    }
    measure!(
        "token" "Token" token, "search" "Search" search, "wide" "Wide" wide, "deep" "Deep" deep, "maps" "Maps" maps,
        "doubles" "Doubles" doubles, "integers" "Integers" integers, "text" "Text" text, "bytes" "Blob" blob,
        "well-known" "Known" known
    );
    Ok(())
}

fn measure<M>(name: &str, codec: &Codec, message: &M, rounds: usize) -> Result<()>
where
    M: Message + Default + PartialEq + Serialize + DeserializeOwned,
{
    let wire = message.encode_to_vec();
    let json = serde_json::to_vec(message)?;
    agree(codec, message, &wire, &json).with_context(|| name.to_owned())?;
    let ours_to = || {
        let mut out = vec![];
        codec.to_json(black_box(&wire), &mut out).expect("JSON");
        out
    };
    let typed_to =
        || serde_json::to_vec(&M::decode(black_box(wire.as_slice())).expect("a message")).expect("JSON");
    let ours_from = || codec.from_json(black_box(&json), Unknown::Refused).expect("a message");
    let typed_from = || serde_json::from_slice::<M>(black_box(&json)).expect("a message").encode_to_vec();
    let [mut a, mut b, mut c, mut d] = [vec![], vec![], vec![], vec![]];
    for _ in 0..rounds {
        a.push(block(ours_to));
        b.push(block(typed_to));
        c.push(block(ours_from));
        d.push(block(typed_from));
    }
    let [to_json, typed_to_json, from_json, typed_from_json] = [a, b, c, d].map(median);
    let line = serde_json::json!({"shape": name, "wire_bytes": wire.len(), "json_bytes": json.len(), "to_json": to_json,
        "typed_to_json": typed_to_json, "from_json": from_json, "typed_from_json": typed_from_json});
    println!("{line}");
    Ok(())
}

/// Both sides have to do the same work.
fn agree<M>(codec: &Codec, message: &M, wire: &[u8], json: &[u8]) -> Result<()>
where
    M: Message + Default + PartialEq + DeserializeOwned,
{
    let mut ours = vec![];
    codec.to_json(wire, &mut ours)?;
    ensure!(serde_json::from_slice::<M>(&ours)? == *message, "our JSON says something else");
    let back = codec.from_json(json, Unknown::Refused)?;
    ensure!(M::decode(back.as_slice())? == *message, "our message says something else");
    Ok(())
}

/// Nanoseconds for one run.
fn block(run: impl Fn() -> Vec<u8>) -> f64 {
    let started = Instant::now();
    let mut count = 0_u32;
    loop {
        for _ in 0..16 {
            black_box(run());
        }
        count += 16;
        let elapsed = started.elapsed();
        if elapsed >= BLOCK {
            return elapsed.as_nanos() as f64 / f64::from(count);
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
