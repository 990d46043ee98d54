//! `cargo xtask bench`: the gateway beside its peers, in one run.
//!
//! Each benchmark pins the proxy under test to core 0 and the load with a fast upstream to core 1,
//! runs its contestants in alternating rounds (forward, reverse, forward) and reports medians.

mod ai;
mod ai_call;
mod ai_load;
mod call_load;
mod calls;
pub mod channels;
mod contestants;
mod go_peers;
mod grpc_upstream;
mod helper;
mod process;
mod proxy;
mod reload;
mod report;
mod setup;
mod stream_load;
mod streams;
mod transcode;
mod tunnel;
mod tunnel_load;
mod upstream;
mod wrk;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
pub use report::{Better, Metric, Row, Table};

/// What `cargo xtask bench` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which benchmarks to run: proxy, tunnel, ai-call, transcode, calls, streams,
    /// slow-readers, reload, embed, health, answer, search, overload, memory, fanout, latency, idle,
    /// jitter, storm, deploy. None: all of them.
    names: Vec<String>,
    /// Also write the figures as JSON: a list of {bench, case, metric, unit, value, peer, peer_value, ratio}.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Install the peers and the load generator (nginx, haproxy, wrk, pushpin, socket.io), then stop. Go, with which
    /// grpc-gateway, vanguard-go and centrifuge are built, is not installed: without it those peers are left out.
    #[arg(long)]
    setup: bool,
    /// Short rounds: quick to run, not to be quoted.
    #[arg(long)]
    quick: bool,
    /// One of the processes that the benchmarks start for themselves.
    #[arg(long, hide = true, value_name = "JSON")]
    helper: Option<String>,
}

/// How long to measure.
#[derive(Debug, Clone, Copy)]
struct Plan {
    quick: bool,
    rounds: usize,
    round: Duration,
    idle_tunnels: usize,
}

type Bench = fn(&Plan) -> Result<Vec<Table>>;

const BENCHES: &[(&str, Bench)] = &[
    ("proxy", proxy::run),
    ("tunnel", tunnel::run),
    ("ai-call", ai_call::run),
    ("transcode", transcode::run),
    ("calls", calls::run),
    ("streams", streams::run),
    ("slow-readers", streams::slow_readers),
    ("reload", reload::run),
    ("embed", ai::embed),
    ("health", ai::health),
    ("answer", ai::answer),
    ("search", ai::search),
    ("overload", ai::overload),
    ("memory", ai::memory),
    ("fanout", channels::fanout),
    ("latency", channels::latency),
    ("idle", channels::idle),
    ("jitter", channels::jitter),
    ("storm", channels::storm),
    ("deploy", channels::deploys),
];

/// Runs the chosen benchmarks, prints their tables and writes the JSON file. Blocks its thread.
pub fn run(args: &Args) -> Result<()> {
    if let Some(spec) = &args.helper {
        return helper::run(spec);
    }
    if args.setup {
        return setup::install();
    }
    let chosen = choose(&args.names)?;
    setup::check(&chosen.iter().map(|(name, _)| *name).collect::<Vec<_>>())?;
    contestants::build(&["gateway", "xtask"])?;
    let plan = if args.quick {
        println!("Quick rounds: good for a first look, too short to quote.");
        Plan { quick: true, rounds: 3, round: Duration::from_secs(2), idle_tunnels: 1000 }
    } else {
        Plan { quick: false, rounds: 21, round: Duration::from_secs(1), idle_tunnels: 3000 }
    };
    let mut rows = Vec::new();
    for (name, bench) in chosen {
        for table in bench(&plan).with_context(|| format!("benchmark {name}"))? {
            println!("\n{table}");
            rows.extend(table.rows());
        }
    }
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&rows)?;
        std::fs::write(file, text + "\n").with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

fn choose(names: &[String]) -> Result<Vec<(&'static str, Bench)>> {
    for name in names {
        if !BENCHES.iter().any(|(known, _)| known == name) {
            let known: Vec<_> = BENCHES.iter().map(|(known, _)| *known).collect();
            bail!("no benchmark is named \"{name}\"; there are: {}", known.join(", "));
        }
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    Ok(BENCHES.iter().copied().filter(|(name, _)| wanted(name)).collect())
}

/// The contestants' order in a round: forward, reverse, forward, … so that drift hits all alike.
fn order(contestants: usize, round: usize) -> Vec<usize> {
    let forward = 0..contestants;
    if round.is_multiple_of(2) { forward.collect() } else { forward.rev().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_alternate() {
        assert_eq!(order(3, 0), [0, 1, 2]);
        assert_eq!(order(3, 1), [2, 1, 0]);
        assert_eq!(order(3, 2), [0, 1, 2]);
    }

    #[test]
    fn an_unknown_benchmark_is_an_error_that_lists_the_known() {
        let error = choose(&["proxi".into()]).expect_err("unknown").to_string();
        assert!(error.contains("proxi") && error.contains("tunnel"), "{error}");
    }

    #[test]
    fn no_name_chooses_all() {
        assert_eq!(choose(&[]).expect("all").len(), BENCHES.len());
    }
}
