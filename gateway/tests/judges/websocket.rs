//! WebSocket, judged by kosoku with Autobahn's cases: through the tunnel, and by the reader of the channels' frames, none
//! may come out worse than straight to a server of the `ws` package.

use super::{
    frame,
    support::{Edge, within},
    tools,
};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// Cases of the suite; fewer were run when something went wrong with it.
const CASES: usize = 330;
const ROUNDS: usize = 3;

/// A server that ends when it is dropped, and its address.
async fn echo() -> (Child, std::net::SocketAddr) {
    let mut server = Command::new(tools::node())
        .arg(tools::folder("kosoku").join("echo.mjs"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port: u16 = within(lines.next_line()).await.unwrap().expect("a port").parse().unwrap();
    (server, ([127, 0, 0, 1], port).into())
}

type Cases = BTreeMap<String, Value>;

/// How each case came out: those that are named, or all.
async fn judge(python: &Path, address: &str, named: &[String]) -> Cases {
    let script = tools::folder("kosoku").join("judge.py");
    let judge = Command::new(python).arg(script).arg(address).args(named).kill_on_drop(true).output();
    let output = judge.await.unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let cases = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let cases: Cases = cases.map(|case| (case["case"].as_str().unwrap().to_owned(), case)).collect();
    let least = if named.is_empty() { CASES } else { named.len() };
    assert!(cases.len() >= least, "{} cases\n{}", cases.len(), String::from_utf8_lossy(&output.stderr));
    cases
}

/// Autobahn's words for how a server behaved, and for how it closed; higher is better.
fn grade(case: &Value, key: &str) -> usize {
    let order = [
        "ERROR",
        "FAILED",
        "WRONG CODE",
        "UNCLEAN",
        "FAILED BY CLIENT",
        "UNIMPLEMENTED",
        "NON-STRICT",
        "INFORMATIONAL",
        "OK",
    ];
    let word = case[key].as_str().unwrap();
    order.iter().position(|known| *known == word).unwrap_or_else(|| panic!("{key} is {word}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs for minutes: cargo xtask test kosoku"]
async fn no_websocket_case_is_worse_through_the_tunnel() {
    let python = tools::python("kosoku");
    let (_server, at) = echo().await;
    let edge = Edge::start(at, "").await;
    let tunnel = format!("{}/open", edge.at.public);
    let mut suspects = vec![];
    // Some cases have time limits, which a busy machine misses now and then: only what stays worse is worse.
    for _ in 0..ROUNDS {
        let straight = judge(&python, &at.to_string(), &suspects).await;
        let tunnelled = judge(&python, &tunnel, &suspects).await;
        let ok = tunnelled.values().filter(|case| case["behavior"] == "OK").count();
        println!("kosoku: {ok} of {} cases OK through the tunnel", tunnelled.len());
        suspects = worse(&straight, &tunnelled);
        if suspects.is_empty() {
            return;
        }
    }
    panic!("worse through the tunnel: {suspects:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs for minutes: cargo xtask test kosoku"]
async fn no_websocket_case_is_worse_by_the_reader_of_channels() {
    let python = tools::python("kosoku");
    let (_server, at) = echo().await;
    let ours = frame::echo().await;
    // What channels do not offer is not judged: compression, which are groups 12 and 13.
    // There is no group 8.
    let mut suspects: Vec<_> =
        (1..=10).filter(|group| *group != 8).map(|group| format!("{group}.*")).collect();
    for _ in 0..ROUNDS {
        let theirs = judge(&python, &at.to_string(), &suspects).await;
        let own = judge(&python, &ours.at.to_string(), &suspects).await;
        let ok = own.values().filter(|case| case["behavior"] == "OK").count();
        println!("kosoku: {ok} of {} cases OK by the reader of channels", own.len());
        suspects = worse(&theirs, &own);
        if suspects.is_empty() {
            return;
        }
    }
    panic!("worse by the reader of channels: {suspects:?}");
}

/// The cases that came out worse.
fn worse(straight: &Cases, tunnelled: &Cases) -> Vec<String> {
    let is_worse = |(name, case): &(&String, &Value)| {
        let other = &tunnelled[*name];
        let worse = ["behavior", "close"].iter().any(|key| grade(other, key) < grade(case, key));
        if worse {
            println!("{case}\nbut {other}");
        }
        worse
    };
    straight.iter().filter(is_worse).map(|(name, _)| name.clone()).collect()
}
