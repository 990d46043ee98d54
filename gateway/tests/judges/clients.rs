//! The clients that people use, against a gateway: `@connectrpc/connect-node`, Google's `grpc-web`, `@grpc/grpc-js` and
//! Node.js itself in `tests/clients`, which installs them at the first run; and grpcio in `tests/clients/python`, from
//! the set-up of the Python service.

use super::{
    lab,
    support::{self, Edge, token},
    tools::{self, root},
};
use prost::Message;
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

/// The descriptors of the lab's contract, which the clients read at run time.
fn descriptors(client: &Path) -> PathBuf {
    let includes = [lab::contracts().into(), root().join("proto")];
    let set = protox::compile(["lab.proto", "wire.proto"], includes).unwrap();
    let name = format!("{}.binpb", client.file_name().unwrap().display());
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&to, set.encode_to_vec()).unwrap();
    to
}

fn install(folder: &Path) {
    if !folder.join("node_modules/grpc-web").exists() {
        let npm = Command::new("npm").args(["ci", "--ignore-scripts"]).current_dir(folder).status();
        assert!(npm.unwrap().success(), "npm ci in {}", folder.display());
    }
}

/// Runs a program of clients; every case must pass, and there must be at least `least`.
async fn run(program: &Path, main: &Path, least: usize) -> Arc<lab::Seen> {
    let (upstream, seen) = lab::upstream().await;
    let edge = Edge::with(&lab::config(upstream.at, ""), gateway::Options::default()).await;
    let output = tokio::process::Command::new(program)
        .arg(main)
        .arg(format!("http://{}", edge.at.public))
        .arg(descriptors(main))
        .arg(token("alice", "lab"))
        .kill_on_drop(true)
        .output();
    let output = output.await.unwrap();
    let cases: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    for case in &cases {
        println!("{}: {}", case["name"].as_str().unwrap(), case["error"].as_str().unwrap_or("ok"));
    }
    let failed = cases.iter().filter(|case| !case["error"].is_null()).count();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && failed == 0, "{failed} of {} failed\n{stderr}", cases.len());
    assert!(cases.len() >= least && seen.calls() > cases.len(), "{} cases", cases.len());
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "installs npm packages: cargo test -p gateway --test judges -- --ignored clients_in_node"]
async fn clients_in_node_call_every_kind_of_method() {
    let folder = root().join("tests/clients");
    install(&folder);
    run(&tools::node(), &folder.join("main.mjs"), 101).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the Python service's set-up: cargo test -p gateway --test judges -- --ignored clients_in_python"]
async fn clients_in_python_call_every_kind_of_method() {
    let python = root().join("services-python/ai/.venv/bin/python");
    let seen = run(&python, &root().join("tests/clients/python/main.py"), 16).await;
    assert!(seen.had("x-probe", "seen") && seen.had("x-probe-bin", "AP8"), "metadata reaches the upstream");
    // Two streams were left, and three deadlines passed. What was left at once may not have come so far.
    support::until(|| seen.cancellations() >= 5).await;
}
