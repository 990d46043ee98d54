//! OpenAI's own clients, for Python and for JavaScript, unchanged: `tests/openai`. The base URL is the gateway's, the
//! key a token of its own.

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use blackbox::{Sut, runner::Group, tokens};
use serde_json::Value;
use tokio::process::Command;

/// The clients wait for the small model's text several times, and are installed at the first run.
const BOUND: Duration = Duration::from_secs(300);

pub(crate) fn add(group: Group) -> Group {
    group.long_test("OpenAI's client for Python works unchanged", BOUND, python).long_test(
        "OpenAI's client for JavaScript works unchanged",
        BOUND,
        javascript,
    )
}

async fn python(sut: Arc<Sut>) -> Result<()> {
    let root = xtask::root();
    let interpreter = root.join("services-python/ai/.venv/bin/python");
    run(&sut, &interpreter, &root.join("tests/openai/client.py")).await
}

async fn javascript(sut: Arc<Sut>) -> Result<()> {
    let root = xtask::root();
    let folder = root.join("tests/openai");
    if !folder.join("node_modules/openai").exists() {
        let installed = Command::new("npm")
            .args(["ci", "--ignore-scripts"])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .status();
        ensure!(installed.await.context("start npm")?.success(), "npm ci in {}", folder.display());
    }
    run(&sut, &root.join("services-node/node_modules/.bin/node"), &folder.join("client.mjs")).await
}

/// Runs a client, which prints a line of JSON for each of its cases.
async fn run(sut: &Sut, interpreter: &Path, client: &Path) -> Result<()> {
    let weak = sut.token_with(&tokens::claims("alice", "notes"))?;
    let output = Command::new(interpreter)
        .arg(client)
        .args([format!("{}/v1", sut.base()), sut.token("alice")?, weak])
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("start {}", interpreter.display()))?;
    let (lines, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let cases: Vec<Value> =
        lines.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("its output")?;
    let failed: Vec<_> = cases.iter().filter(|case| !case["error"].is_null()).collect();
    ensure!(failed.is_empty() && output.status.success(), "{failed:#?}\n{errors}");
    ensure!(cases.len() >= 7, "{} cases", cases.len());
    Ok(())
}
