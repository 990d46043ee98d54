//! WebSocket, judged by kosoku with Autobahn's cases: through the tunnel none may come out worse than straight to the
//! same server, which is the `ws` package's.

use super::{
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
const CASES: usize = 400;

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

/// How each case came out.
async fn judge(python: &Path, address: &str) -> BTreeMap<String, Value> {
    let script = tools::folder("kosoku").join("judge.py");
    let judge = Command::new(python).arg(script).arg(address).kill_on_drop(true).output();
    let output = judge.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let cases: BTreeMap<String, Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|case| (case["case"].as_str().unwrap().to_owned(), case))
        .collect();
    assert!(cases.len() > CASES, "{} cases", cases.len());
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
    let straight = judge(&python, &at.to_string()).await;
    let tunnelled = judge(&python, &format!("{}/open", edge.at.public)).await;
    let worse: Vec<_> = straight
        .iter()
        .filter(|(name, case)| {
            let other = &tunnelled[*name];
            ["behavior", "close"].iter().any(|key| grade(other, key) < grade(case, key))
        })
        .map(|(name, case)| format!("{name}: {case} became {}", tunnelled[name]))
        .collect();
    assert!(worse.is_empty(), "{worse:#?}");
    let ok = tunnelled.values().filter(|case| case["behavior"] == "OK").count();
    println!("kosoku: {ok} of {} cases OK through the tunnel", tunnelled.len());
}
