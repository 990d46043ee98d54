//! The clients that people use, against a gateway: `@connectrpc/connect-node`, Google's `grpc-web` and
//! `@grpc/grpc-js`, in `tests/clients`. Needs Node.js with npm, which installs them at the first run.
#![allow(clippy::unwrap_used)] // A panic is a test's failure.

#[path = "contract/lab/mod.rs"]
mod lab;
mod support;

use prost::Message;
use serde_json::Value;
use std::{path::Path, process::Command};
use support::{Edge, token};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The descriptors of the lab's contract, which the clients read at run time.
fn descriptors(to: &Path) {
    let includes = [lab::contracts().into(), root().join("proto")];
    let set = protox::compile(["lab.proto", "wire.proto"], includes).unwrap();
    std::fs::write(to, set.encode_to_vec()).unwrap();
}

fn install(folder: &Path) {
    if !folder.join("node_modules/grpc-web").exists() {
        let npm = Command::new("npm").args(["ci", "--ignore-scripts"]).current_dir(folder).status();
        assert!(npm.unwrap().success(), "npm ci in {}", folder.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "installs npm packages: cargo test -p gateway --test clients -- --ignored"]
async fn real_clients_call_every_kind_of_method() {
    let folder = root().join("tests/clients");
    install(&folder);
    let set = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab.binpb");
    descriptors(&set);
    let (upstream, seen) = lab::upstream().await;
    let edge = Edge::with(&lab::config(upstream.at, ""), gateway::Options::default()).await;
    let pinned = root().join("services-node/node_modules/.bin/node");
    let node = if pinned.exists() { pinned } else { "node".into() };
    let output = tokio::process::Command::new(node)
        .args([
            folder.join("main.mjs").as_os_str(),
            format!("http://{}", edge.at.public).as_ref(),
            set.as_os_str(),
        ])
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
    assert!(cases.len() > 100 && seen.calls() > cases.len(), "{} cases", cases.len());
}
