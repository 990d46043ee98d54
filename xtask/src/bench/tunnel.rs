//! `tunnel`: WebSocket echo through the gateway, nginx and haproxy, and what an idle tunnel costs in memory.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Deserialize;

use super::{
    Plan,
    contestants::{Contestant, Field, program, token},
    helper::{Figures, Spec, Target},
    process::{self, Helper},
    proxy::{alternate, metrics},
    report::{Better, Entry, Metric, Table},
};

const CONNECTIONS: usize = 64;
const PATH: &str = "/collab";

/// Runs the echo, then the idle tunnels.
pub(super) fn run(plan: &Plan) -> Result<Vec<Table>> {
    Ok(vec![echo(plan)?, idle(plan)?])
}

fn echo(plan: &Plan) -> Result<Table> {
    let field = Field::start()?;
    let token = token()?;
    let load = |proxy: &Contestant, duration: Duration| -> Result<Figures> {
        let (target, seconds) = (proxy.target(PATH, &token), duration.as_secs_f64());
        let spec = Spec::Tunnels { target, connections: CONNECTIONS, seconds };
        Helper::start(&program("xtask"), &spec)?.line()
    };
    Ok(Table {
        bench: "tunnel",
        title: format!(
            "WebSocket echo, 64 B messages, {CONNECTIONS} connections; medians of {} rounds of {} s",
            plan.rounds,
            plan.round.as_secs()
        ),
        metrics: metrics("message"),
        cases: vec![("echo 64 B".into(), alternate(plan, &field, load)?)],
    })
}

fn idle(plan: &Plan) -> Result<Table> {
    // Started anew: memory that the echo left behind would hide what a tunnel costs.
    let field = Field::start()?;
    let token = token()?;
    let mut entries = Vec::new();
    for proxy in &field.proxies {
        let kib = idle_kib(proxy.process.pid(), proxy.target(PATH, &token), plan.idle_tunnels)?;
        entries.push(Entry { contestant: proxy.name, values: vec![Some(kib)] });
    }
    Ok(Table {
        bench: "tunnel",
        title: format!("memory of {} idle tunnels", plan.idle_tunnels),
        metrics: vec![Metric { name: "memory_per_tunnel", unit: "KiB", better: Better::Lower, decimals: 2 }],
        cases: vec![("idle".into(), entries)],
    })
}

/// The growth of the proxy's resident memory for each tunnel that is open and silent. Others come first and stay,
/// so that memory which the proxy freed when it started is used up and does not hide what a tunnel costs.
fn idle_kib(pid: u32, target: Target, connections: usize) -> Result<f64> {
    #[derive(Deserialize)]
    struct Open {
        open: usize,
    }
    let open = |connections| -> Result<(Helper, usize)> {
        let spec = Spec::IdleTunnels { target: target.clone(), connections };
        let mut helper = Helper::start(&program("xtask"), &spec)?;
        let open = helper.line::<Open>()?.open;
        Ok((helper, open))
    };
    let _first = open(connections / 3)?;
    let before = settled_rss(pid)?;
    let (_helper, open) = open(connections)?;
    let growth = settled_rss(pid)? - before;
    Ok(growth / 1024.0 / open as f64)
}

/// The resident memory once it has not changed for half a second (5 s at most).
fn settled_rss(pid: u32) -> Result<f64> {
    let until = Instant::now() + Duration::from_secs(5);
    let (mut last, mut since) = (process::rss(pid)?, Instant::now());
    while since.elapsed() < Duration::from_millis(500) && Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
        let now = process::rss(pid)?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last)
}
