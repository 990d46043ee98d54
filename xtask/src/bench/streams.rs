//! `streams`: what a message of a server stream costs the gateway. `slow-readers`: what readers that stall cost it, and
//! what they do to others.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::{
    Plan,
    contestants::{self, Contestant, Folder, program, token},
    helper::{Figures, Spec},
    process::{self, Helper},
    report::{Better, Entry, Metric, Table, median},
};

/// Streams that are read at the same time.
const STREAMS: usize = 8;
const ENDLESS: &str = "/v1/bench:stream";
const SHORT: &str = "/v1/bench:stream?count=50";

#[derive(Deserialize)]
struct Count {
    messages: f64,
}

struct Bed {
    gateway: Contestant,
    _upstream: Helper,
    _folder: Folder,
}

fn bed() -> Result<Bed> {
    let folder = Folder::new()?;
    let mut upstream = Helper::start(&program("xtask"), &Spec::GrpcUpstream)?;
    let port = upstream.line::<contestants::Ready>()?.port;
    let (gateway, _) = contestants::contract_gateway(&folder.0, port, None)?;
    Ok(Bed { gateway, _upstream: upstream, _folder: folder })
}

/// Messages of 50 bytes, as events and as lines.
pub(super) fn run(plan: &Plan) -> Result<Vec<Table>> {
    let bed = bed()?;
    let target = bed.gateway.target(ENDLESS, &token()?);
    let pid = bed.gateway.process.pid();
    let mut cases = Vec::new();
    for (case, accept, marker) in
        [("events (SSE)", "text/event-stream", "data: "), ("lines (NDJSON)", "application/x-ndjson", "{\"")]
    {
        let mut samples = vec![];
        for _ in 0..=plan.rounds {
            let spec = Spec::Events {
                target: target.clone(),
                accept: accept.into(),
                marker: marker.into(),
                streams: STREAMS,
                seconds: plan.round.as_secs_f64(),
            };
            let before = process::cpu_us(pid)?;
            let count: Count = Helper::start(&program("xtask"), &spec)?.line()?;
            let cpu = process::cpu_us(pid)? - before;
            ensure!(cpu > 0.0 && count.messages > 0.0, "nothing was measured");
            samples.push([count.messages / plan.round.as_secs_f64(), cpu / count.messages]);
        }
        // The first one warms up.
        samples.remove(0);
        let column = |index: usize| median(samples.iter().map(|sample| sample[index]).collect());
        let values = vec![Some(column(0)), Some(column(1)), Some(1e6 / column(1))];
        cases.push((case.to_owned(), vec![Entry { contestant: "gateway", values }]));
    }
    let metric = |name, unit, better, decimals| Metric { name, unit, better, decimals };
    Ok(vec![Table {
        bench: "streams",
        title: format!("{STREAMS} server streams of 50 B messages, a DATA frame each"),
        metrics: vec![
            metric("messages_per_second", "1/s", Better::Higher, 0),
            metric("cpu_per_message", "µs", Better::Lower, 2),
            metric("messages_per_cpu_second", "1/s", Better::Higher, 0),
        ],
        cases,
    }])
}

/// Short streams alone, then beside readers that stall; and the memory of these.
pub(super) fn slow_readers(plan: &Plan) -> Result<Vec<Table>> {
    let bed = bed()?;
    let token = token()?;
    let pid = bed.gateway.process.pid();
    let probe = || -> Result<Figures> {
        let spec = Spec::Probe { target: bed.gateway.target(SHORT, &token), seconds: 5.0 };
        Helper::start(&program("xtask"), &spec)?.line()
    };
    probe()?;
    let alone = probe()?;
    let before = process::rss(pid)?;
    let readers = plan.idle_tunnels.min(1000);
    let spec = Spec::Stalled { target: bed.gateway.target(ENDLESS, &token), connections: readers };
    let mut stalled = Helper::start(&program("xtask"), &spec)?;
    stalled.line::<serde_json::Value>()?;
    settle(pid)?;
    let kib = (process::rss(pid)? - before) / readers as f64 / 1024.0;
    let beside = probe()?;
    let entry = |contestant, figures: Figures, kib| Entry {
        contestant,
        values: vec![Some(figures.p50_ms), Some(figures.p99_ms), kib],
    };
    let metric = |name, unit, decimals| Metric { name, unit, better: Better::Lower, decimals };
    Ok(vec![Table {
        bench: "slow-readers",
        title: format!("streams of 50 messages beside {readers} event streams that nobody reads"),
        metrics: vec![metric("p50", "ms", 2), metric("p99", "ms", 2), metric("memory_per_reader", "KiB", 1)],
        cases: vec![(
            "short streams".into(),
            vec![entry("beside them", beside, Some(kib)), entry("alone", alone, None)],
        )],
    }])
}

/// Waits until all that could be buffered is: the gateway does next to nothing.
fn settle(pid: u32) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let before = process::cpu_us(pid)?;
        thread::sleep(Duration::from_secs(1));
        if process::cpu_us(pid)? - before < 50_000.0 {
            return Ok(());
        }
        ensure!(Instant::now() < until, "the gateway does not come to rest beside readers that stall");
    }
}
