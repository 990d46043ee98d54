//! `embed`, `health`, `answer`, `search`, `overload`, `memory`: the Python service beside its engines alone. The service
//! measures itself (`python -m hybrid_ai.measure`), because only Python can run the engines without it.

use std::{path::Path, process::Command, time::SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    Plan,
    report::{Better, Entry, Metric, Table},
};
use crate::stack::{Options, Stack};

pub(super) fn embed(plan: &Plan) -> Result<Vec<Table>> {
    let seconds = if plan.quick { "1" } else { "5" };
    measure("embed", "texts of 13 tokens: the service beside onnxruntime alone", &["--seconds", seconds])
}

pub(super) fn health(plan: &Plan) -> Result<Vec<Table>> {
    let seconds = if plan.quick { "3" } else { "15" };
    measure("health", "health checks and moderation while 32 callers embed", &["--seconds", seconds])
}

pub(super) fn answer(plan: &Plan) -> Result<Vec<Table>> {
    let rounds = if plan.quick { "3" } else { "7" };
    measure("answer", "chat beside its engine alone; citations after retrieval", &["--rounds", rounds])
}

pub(super) fn search(plan: &Plan) -> Result<Vec<Table>> {
    let sizes = if plan.quick { ["10000", "100"] } else { ["100000", "400"] };
    let title = format!("search over {} passages of this machine's documentation", sizes[0]);
    measure("search", &title, &["--passages", sizes[0], "--queries", sizes[1]])
}

pub(super) fn overload(plan: &Plan) -> Result<Vec<Table>> {
    let seconds = if plan.quick { "10" } else { "60" };
    measure("overload", "twice as many calls as can be answered", &["--seconds", seconds])
}

pub(super) fn memory(_: &Plan) -> Result<Vec<Table>> {
    measure("memory", "what each model adds to the service after its largest work, in MB", &[])
}

fn measure(name: &'static str, title: &str, arguments: &[&str]) -> Result<Vec<Table>> {
    let root = crate::root();
    let folder = root.join("services-python/ai");
    set_up(&root)?;
    let output = Command::new(folder.join(".venv/bin/python"))
        .args(["-m", "hybrid_ai.measure", name])
        .args(arguments)
        .current_dir(&folder)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("start the measurement")?;
    ensure!(output.status.success(), "python -m hybrid_ai.measure {name} failed ({})", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).context("read the measurement's figures")?;
    let bars = report["bars"].as_object();
    let bars: Vec<String> =
        bars.into_iter().flatten().map(|(figure, bar)| format!("{figure} {bar}")).collect();
    let title = if bars.is_empty() { title.to_owned() } else { format!("{title}; {}", bars.join(", ")) };
    let mut figures = Vec::new();
    flatten("", &report, &mut figures);
    let entry = |value| vec![Entry { contestant: "service", values: vec![Some(value)] }];
    let value = Metric { name: "value", unit: "", better: Better::Lower, decimals: 2 };
    let cases = figures.into_iter().map(|(name, value)| (name, entry(value))).collect();
    Ok(vec![Table { bench: name, title, metrics: vec![value], cases }])
}

/// The service's packages, weights and contracts, as `up` makes them.
fn set_up(root: &Path) -> Result<()> {
    let unique = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
    let state = std::env::temp_dir().join(format!("hybrid-bench-service-{unique}"));
    let prepared = Stack::load(root, Options::isolated(&state))
        .and_then(|stack| stack.prepare_only(&["ai".into()], false));
    let _ = std::fs::remove_dir_all(&state);
    prepared
}

/// All numbers of a report, by their path in it.
fn flatten(path: &str, value: &Value, into: &mut Vec<(String, f64)>) {
    match value {
        Value::Number(number) => into.push((path.to_owned(), number.as_f64().unwrap_or(f64::NAN))),
        Value::Object(members) => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, member, into);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_path() {
        let report = serde_json::json!({"ratio": 0.8, "bars": {"ratio": ">= 0.7"}, "health": {"p99_ms": 7}});
        let mut found = Vec::new();
        flatten("", &report, &mut found);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, [("health.p99_ms".to_owned(), 7.0), ("ratio".to_owned(), 0.8)]);
    }
}
