//! `fanout`: deliveries for a CPU second of the serving processes. `latency`: from the order to publish to the delivery.

use anyhow::{Result, ensure};

use super::{
    field::{Contestant, Field, Who},
    load::{Fan, Fanned, Pace},
    marks,
    wire::Encoding,
};
use crate::bench::{
    Plan,
    contestants::program,
    helper::Spec,
    order,
    process::Helper,
    report::{Better, Entry, Metric, Table, median},
};

const SUBSCRIBERS: usize = 1000;
/// Messages on their way to the slowest receiver at saturation.
const WINDOW: u64 = 128;
const CASES: [(&str, Encoding); 2] = [("JSON", Encoding::Json), ("protobuf", Encoding::Protobuf)];

struct Timing {
    rounds: usize,
    warm_up: f64,
    seconds: f64,
}

impl Timing {
    fn of(plan: &Plan) -> Self {
        if plan.quick {
            Self { rounds: 1, warm_up: 1.0, seconds: 3.0 }
        } else {
            Self { rounds: 5, warm_up: 2.0, seconds: 8.0 }
        }
    }
}

fn drive(contestant: &Contestant, encoding: Encoding, pace: Pace, timing: &Timing) -> Result<Option<Fanned>> {
    let Some(door) = contestant.door(encoding) else { return Ok(None) };
    contestant.settle()?;
    let job = Fan {
        door,
        control: contestant.control,
        pids: contestant.pids(),
        subscribers: SUBSCRIBERS,
        pace,
        warm_up: timing.warm_up,
        seconds: timing.seconds,
    };
    let fanned: Fanned = Helper::start(&program("xtask"), &Spec::ChannelsFan(job))?.line()?;
    let tally = fanned.tally;
    ensure!(
        tally.missing + tally.repeated == 0,
        "{}: {} messages were missing and {} came twice",
        contestant.name,
        tally.missing,
        tally.repeated
    );
    Ok(Some(fanned))
}

/// The medians of rounds, for those contestants that speak the encoding.
fn rounds(
    field: &Field,
    encoding: Encoding,
    timing: &Timing,
    pace: impl Fn(usize) -> Option<Pace>,
    figures: impl Fn(&Fanned) -> Vec<f64>,
) -> Result<Vec<Entry>> {
    let mut samples = vec![Vec::new(); field.contestants.len()];
    for round in 0..timing.rounds {
        for index in order(field.contestants.len(), round) {
            let contestant = &field.contestants[index];
            let Some(pace) = pace(index) else { continue };
            match drive(contestant, encoding, pace, timing) {
                Ok(fanned) => samples[index].extend(fanned.iter().map(&figures)),
                // A peer that fails under the load has no figure in this round; ours must not.
                Err(why) if index > 0 => println!("{} failed in a round: {why:#}.", contestant.name),
                Err(why) => return Err(why),
            }
        }
    }
    let entries = field.contestants.iter().zip(samples).filter(|(_, samples)| !samples.is_empty());
    Ok(entries
        .map(|(contestant, samples)| {
            let columns = (0..samples[0].len())
                .map(|column| Some(median(samples.iter().map(|sample: &Vec<f64>| sample[column]).collect())));
            Entry { contestant: contestant.name, values: columns.collect() }
        })
        .collect())
}

/// Messages to many receivers, as fast as they are received.
pub(in crate::bench) fn run(plan: &Plan) -> Result<Vec<Table>> {
    let timing = Timing::of(plan);
    let field = Field::start("fanout", &Who::ALL)?;
    let mut cases = Vec::new();
    for (case, encoding) in CASES {
        let entries = rounds(
            &field,
            encoding,
            &timing,
            |_| Some(Pace::Window(WINDOW)),
            |fanned| {
                vec![
                    fanned.deliveries_per_cpu_second,
                    fanned.deliveries_per_second,
                    fanned.messages_per_second,
                ]
            },
        )?;
        cases.push((case.to_owned(), entries));
    }
    let metric = |name, unit| Metric { name, unit, better: Better::Higher, decimals: 0 };
    Ok(vec![Table {
        bench: "fanout",
        title: format!(
            "{} B messages to {SUBSCRIBERS} WebSockets in one channel, {WINDOW} on their way; histories kept where the \
             server keeps any; published by the application over its link (gateway), io.emit (socket.io), ZeroMQ \
             (pushpin), node.Publish (centrifuge), whose CPU counts; medians of {} rounds of {} s",
            marks::SIZE,
            timing.rounds,
            timing.seconds
        ),
        metrics: vec![
            metric("deliveries_per_cpu_second", "1/CPU s"),
            metric("deliveries_per_second", "1/s"),
            metric("messages_per_second", "1/s"),
        ],
        cases,
    }])
}

/// The same at half of each contestant's own saturation, and all at half of the slowest one's.
pub(in crate::bench) fn latency(plan: &Plan) -> Result<Vec<Table>> {
    let timing = Timing::of(plan);
    let field = Field::start("latency", &Who::ALL)?;
    let mut halves = Vec::new();
    for contestant in &field.contestants {
        let saturated = match drive(contestant, Encoding::Json, Pace::Window(WINDOW), &timing) {
            Err(why) if !halves.is_empty() => {
                println!("{} is left out of `latency`: {why:#}.", contestant.name);
                None
            }
            other => other?,
        };
        halves.push(saturated.map(|fanned| fanned.deliveries_per_second / SUBSCRIBERS as f64 / 2.0));
    }
    let slowest = halves.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let half = |index: usize| halves[index].map(Pace::Rate);
    let figures = |fanned: &Fanned| {
        vec![fanned.p50_ms, fanned.p99_ms, fanned.messages_per_second, fanned.deliveries_per_cpu_second]
    };
    let own = rounds(&field, Encoding::Json, &timing, half, figures)?;
    let same =
        rounds(&field, Encoding::Json, &timing, |index| half(index).map(|_| Pace::Rate(slowest)), figures)?;
    Ok(vec![Table {
        bench: "latency",
        title: format!(
            "from the order to publish to each of {SUBSCRIBERS} deliveries, {} B of JSON; medians of {} rounds of {} s",
            marks::SIZE,
            timing.rounds,
            timing.seconds
        ),
        metrics: vec![
            Metric { name: "p50", unit: "ms", better: Better::Lower, decimals: 2 },
            Metric { name: "p99", unit: "ms", better: Better::Lower, decimals: 2 },
            Metric { name: "messages_per_second", unit: "1/s", better: Better::Higher, decimals: 0 },
            // With few messages there is little to gather: this is what each delivery costs by itself.
            Metric {
                name: "deliveries_per_cpu_second",
                unit: "1/CPU s",
                better: Better::Higher,
                decimals: 0,
            },
        ],
        cases: vec![("half of its own saturation".into(), own), ("half of the slowest one's".into(), same)],
    }])
}
