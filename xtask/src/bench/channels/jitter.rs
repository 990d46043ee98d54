//! `jitter`: clients on a bad network. Each loses its connection for two seconds, again and again, while messages go on;
//! what counts is whether it has every message, once and in order, and how fast what it missed comes.

use anyhow::Result;

use super::{
    churn::{Jitter, Jittered},
    field::{Field, Who},
    wire::Encoding,
};
use crate::bench::{
    Plan,
    contestants::program,
    helper::Spec,
    process::Helper,
    report::{Better, Entry, Metric, Table},
};

const RATE: f64 = 10.0;
const EVERY: f64 = 15.0;
const AWAY: f64 = 2.0;

/// Ours and those peers that can go on where a client was; Pushpin's WebSockets cannot.
pub(in crate::bench) fn run(plan: &Plan) -> Result<Vec<Table>> {
    let (clients, seconds) = if plan.quick { (500, 30.0) } else { (2000, 180.0) };
    let mut entries = Vec::new();
    for who in [Who::Gateway, Who::SocketIo, Who::Centrifugo] {
        let field = Field::start("jitter", &[who])?;
        for contestant in field.contestants.iter().filter(|contestant| contestant.recovers) {
            let Some(door) = contestant.door(Encoding::Json) else { continue };
            let control = contestant.control;
            let job = Jitter { door, control, clients, rate: RATE, seconds, every: EVERY, away: AWAY };
            let outcome: Jittered = Helper::start(&program("xtask"), &Spec::ChannelsJitter(job))?.line()?;
            entries.push(Entry { contestant: contestant.name, values: values(&outcome, clients) });
        }
    }
    let metric = |name, unit, better, decimals| Metric { name, unit, better, decimals };
    let count = |name| metric(name, "", Better::Lower, 0);
    Ok(vec![Table {
        bench: "jitter",
        title: format!(
            "{clients} clients of one channel with {RATE} messages a second for {seconds} s; each is away for {AWAY} s every \
             {EVERY} s; replay: from the attempt to connect to the last missed message"
        ),
        metrics: vec![
            metric("delivered", "%", Better::Higher, 4),
            metric("replay_p50", "ms", Better::Lower, 1),
            metric("replay_p99", "ms", Better::Lower, 1),
            count("missing"),
            count("repeated"),
            count("unrecovered"),
            count("broken"),
        ],
        cases: vec![("JSON".into(), entries)],
    }])
}

fn values(outcome: &Jittered, clients: usize) -> Vec<Option<f64>> {
    let expected = outcome.published as f64 * clients as f64;
    let tally = &outcome.tally;
    let figures = [
        tally.delivered as f64 / expected * 100.0,
        outcome.replay_p50_ms,
        outcome.replay_p99_ms,
        tally.missing as f64,
        tally.repeated as f64,
        outcome.unrecovered as f64,
        outcome.broken as f64,
    ];
    figures.into_iter().map(Some).collect()
}
