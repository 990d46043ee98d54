//! `idle`: what a connection with one subscription costs in memory while nothing happens.

use anyhow::Result;
use serde::Deserialize;

use super::{
    field::{Contestant, Field, Who},
    wire::Encoding,
};
use crate::bench::{
    Plan,
    contestants::program,
    helper::Spec,
    process::Helper,
    report::{Better, Entry, Metric, Table},
};

#[derive(Deserialize)]
struct Open {
    open: usize,
}

/// One contestant after the other, each started anew: memory that others left free would hide the cost.
pub(in crate::bench) fn run(plan: &Plan) -> Result<Vec<Table>> {
    let connections = if plan.quick { 2000 } else { 10_000 };
    let mut cases = Vec::new();
    for (case, encoding) in [("JSON", Encoding::Json), ("protobuf", Encoding::Protobuf)] {
        let mut entries = Vec::new();
        for who in [Who::Gateway, Who::SocketIo, Who::Pushpin, Who::PushpinStream, Who::Centrifugo] {
            let field = Field::start("idle", &[who])?;
            for contestant in &field.contestants {
                match measure(contestant, encoding, connections) {
                    Ok(Some(values)) => entries.push(Entry { contestant: contestant.name, values }),
                    Ok(None) => {}
                    Err(why) if who != Who::Gateway => {
                        println!("{} is left out of `idle`: {why:#}.", contestant.name);
                    }
                    Err(why) => return Err(why),
                }
            }
        }
        cases.push((case.to_owned(), entries));
    }
    let metric = |name, unit, decimals| Metric { name, unit, better: Better::Lower, decimals };
    Ok(vec![Table {
        bench: "idle",
        title: format!(
            "resident memory of the server's processes with {connections} idle WebSockets, one subscription each: their \
             growth from a tenth to all, and the whole, by connection"
        ),
        metrics: vec![
            metric("memory_per_connection", "KiB", 2),
            metric("whole_per_connection", "KiB", 2),
            metric("server", "MiB", 1),
        ],
        cases,
    }])
}

/// The first tenth uses up what the server freed when it started.
fn measure(
    contestant: &Contestant,
    encoding: Encoding,
    connections: usize,
) -> Result<Option<Vec<Option<f64>>>> {
    let Some(door) = contestant.door(encoding) else { return Ok(None) };
    let open = |connections| -> Result<Helper> {
        let spec = Spec::ChannelsIdle { door: door.clone(), connections };
        let mut helper = Helper::start(&program("xtask"), &spec)?;
        helper.line::<Open>().map(|open| open.open)?;
        Ok(helper)
    };
    let first = connections / 10;
    let _first = open(first)?;
    let before = contestant.settled_rss()?;
    let _rest = open(connections - first)?;
    let after = contestant.settled_rss()?;
    let growth = (after - before) / 1024.0 / (connections - first) as f64;
    Ok(Some(vec![Some(growth), Some(after / 1024.0 / connections as f64), Some(after / 1024.0 / 1024.0)]))
}
