//! `transcode`: the transcoder beside generated code (prost with pbjson), a message at a time, on one core.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{
    Plan,
    contestants::{build, program},
    process::{PROXY_CORE, pinned_command},
    report::{Better, Entry, Metric, Table},
};

/// What the program that measures says of a shape, in nanoseconds.
#[derive(Deserialize)]
struct Shape {
    shape: String,
    wire_bytes: usize,
    json_bytes: usize,
    to_json: f64,
    typed_to_json: f64,
    from_json: f64,
    typed_from_json: f64,
}

/// Measures all shapes; the last case is the geometric mean of the ratios.
pub(super) fn run(plan: &Plan) -> Result<Vec<Table>> {
    build(&["peers"])?;
    // Blocks of 10 ms: many of them fit where other benchmarks have a round.
    let rounds = plan.rounds * 5;
    let command = [program("peers").display().to_string(), "micro".into(), rounds.to_string()];
    let output = pinned_command(PROXY_CORE, &command).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "peers ended with {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let shapes = text.lines().map(serde_json::from_str).collect::<Result<Vec<Shape>, _>>();
    let shapes = shapes.context("what peers said")?;
    let mut cases: Vec<_> = shapes.iter().map(case).collect();
    let mean = |ratio: fn(&Shape) -> f64| {
        (shapes.iter().map(|shape| ratio(shape).ln()).sum::<f64>() / shapes.len() as f64).exp()
    };
    cases.push((
        "geometric mean, typed = 1".into(),
        entries(
            [1.0 / mean(|s| s.typed_to_json / s.to_json), 1.0 / mean(|s| s.typed_from_json / s.from_json)],
            [1.0, 1.0],
        ),
    ));
    let lower = |name| Metric { name, unit: "ns", better: Better::Lower, decimals: 1 };
    Ok(vec![Table {
        bench: "transcode",
        title: format!("one message at a time; medians of {rounds} alternating blocks of 10 ms"),
        metrics: vec![lower("to_json"), lower("from_json")],
        cases,
    }])
}

fn case(shape: &Shape) -> (String, Vec<Entry>) {
    let name = format!("{} ({} B, {} B JSON)", shape.shape, shape.wire_bytes, shape.json_bytes);
    let typed = [shape.typed_to_json, shape.typed_from_json];
    (name, entries([shape.to_json, shape.from_json], typed))
}

fn entries(ours: [f64; 2], typed: [f64; 2]) -> Vec<Entry> {
    let entry = |contestant, values: [f64; 2]| Entry { contestant, values: values.map(Some).to_vec() };
    vec![entry("compiled plans", ours), entry("prost + pbjson", typed)]
}
