//! `reload`: a contract of 500 methods is read again while calls go on.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    Plan,
    contestants::{self, Folder, program, token},
    helper::Spec,
    process::Helper,
    report::{Better, Entry, Metric, Table, median},
};

const METHODS: usize = 500;
const METHODS_A_FILE: usize = 50;

/// What the calls around one reload saw.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Around {
    /// 99th percentile of the two seconds before, in ms.
    pub(super) before: f64,
    /// That of the second from the reload's beginning.
    pub(super) during: f64,
    /// How long the reload took, in ms.
    pub(super) reload: f64,
    /// Calls that got no answer or another than 200.
    pub(super) failed: usize,
    /// All calls.
    pub(super) calls: usize,
}

/// Reloads once a round.
pub(super) fn run(plan: &Plan) -> Result<Vec<Table>> {
    let folder = Folder::new()?;
    let contracts = folder.0.join("contracts");
    write_contracts(&contracts)?;
    let mut upstream = Helper::start(&program("xtask"), &Spec::GrpcUpstream)?;
    let port = upstream.line::<contestants::Ready>()?.port;
    let (gateway, admin) = contestants::contract_gateway(&folder.0, port, Some(&contracts))?;
    let target = gateway.target("/v1/bench:echo", &token()?);
    let mut rounds = vec![];
    for _ in 0..plan.rounds.min(9) {
        let spec = Spec::Reload { target: target.clone(), admin: format!("127.0.0.1:{admin}") };
        let around: Around = Helper::start(&program("xtask"), &spec)?.line()?;
        ensure!(around.calls > 1000, "only {} calls were made", around.calls);
        rounds.push(around);
    }
    let column = |value: fn(&Around) -> f64| median(rounds.iter().map(value).collect());
    let failed = rounds.iter().map(|around| around.failed).sum::<usize>() as f64;
    let metric = |name, unit, decimals| Metric { name, unit, better: Better::Lower, decimals };
    let values = vec![Some(column(|a| a.during)), Some(failed), Some(column(|a| a.reload))];
    let before = vec![Some(column(|a| a.before)), None, None];
    Ok(vec![Table {
        bench: "reload",
        title: format!("{METHODS} methods are read again under load; medians of {} reloads", rounds.len()),
        metrics: vec![metric("p99", "ms", 2), metric("failed", "", 0), metric("reload", "ms", 0)],
        cases: vec![(
            "calls".into(),
            vec![
                Entry { contestant: "second of a reload", values },
                Entry { contestant: "before it", values: before },
            ],
        )],
    }])
}

/// Ten files with fifty methods each, and messages of the size that real ones have.
fn write_contracts(folder: &Path) -> Result<()> {
    fs::create_dir(folder)?;
    for file in 0..METHODS / METHODS_A_FILE {
        let mut text =
            "syntax = \"proto3\";\npackage bench.many;\nimport \"google/api/annotations.proto\";\n\
                        import \"hybrid/options/v1/access.proto\";\n"
                .to_owned();
        writeln!(text, "// The methods of file {file}.\nservice Many{file} {{")?;
        for method in 0..METHODS_A_FILE {
            writeln!(
                text,
                "  // Does something.\n  rpc Call{method}(Message{file}) returns (Message{file}) {{\n    \
                 option (google.api.http) = {{post: \"/v1/many/{file}/call{method}/{{id}}\" body: \"*\"}};\n    \
                 option (hybrid.options.v1.access) = {{level: ACCESS_LEVEL_PUBLIC}};\n  }}"
            )?;
        }
        writeln!(text, "}}\n// What is sent.\nmessage Message{file} {{\n  string id = 1;")?;
        for number in 2..20 {
            writeln!(text, "  // One of its fields.\n  string field_{number} = {number};")?;
        }
        writeln!(text, "}}")?;
        fs::write(folder.join(format!("many{file}.proto")), text)?;
    }
    Ok(())
}
