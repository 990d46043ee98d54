//! `storm`: many clients lose their connections at once and all come back within two seconds, beside others that stay.

use anyhow::Result;

use super::{
    churn::{Storm, Stormed},
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

const WITHIN: f64 = 2.0;
const RATE: f64 = 20.0;
const OTHERS: usize = 500;

/// Ours and those peers that can go on where a client was.
pub(in crate::bench) fn run(plan: &Plan) -> Result<Vec<Table>> {
    let (clients, before) = if plan.quick { (1000, 4.0) } else { (2000, 10.0) };
    let mut entries = Vec::new();
    for who in [Who::Gateway, Who::SocketIo, Who::Centrifugo] {
        let field = Field::start("storm", &[who])?;
        for contestant in field.contestants.iter().filter(|contestant| contestant.recovers) {
            let Some(door) = contestant.door(Encoding::Json) else { continue };
            let control = contestant.control;
            let job = Storm { door, control, clients, within: WITHIN, others: OTHERS, rate: RATE, before };
            let outcome: Stormed = Helper::start(&program("xtask"), &Spec::ChannelsStorm(job))?.line()?;
            entries.push(Entry { contestant: contestant.name, values: values(&outcome) });
        }
    }
    let metric = |name, unit, decimals| Metric { name, unit, better: Better::Lower, decimals };
    Ok(vec![Table {
        bench: "storm",
        title: format!(
            "{clients} clients are dropped at once and come back over {WITHIN} s, beside {OTHERS} that stay; {RATE} messages a \
             second to all; p99 is of the others' deliveries; asks: decisions of the application"
        ),
        metrics: vec![
            metric("refused", "", 0),
            metric("asks", "", 0),
            metric("unrecovered", "", 0),
            metric("missing_or_repeated", "", 0),
            metric("all_back", "s", 2),
            metric("p99_before", "ms", 2),
            metric("p99_during", "ms", 2),
        ],
        cases: vec![("JSON".into(), entries)],
    }])
}

fn values(outcome: &Stormed) -> Vec<Option<f64>> {
    let figures = [
        outcome.refused as f64,
        outcome.asks as f64,
        outcome.unrecovered as f64,
        (outcome.tally.missing + outcome.tally.repeated) as f64,
        outcome.seconds,
        outcome.before_p99_ms,
        outcome.during_p99_ms,
    ];
    figures.into_iter().map(Some).collect()
}
