//! The OpenAPI document, judged by schemathesis: calls made from its schemas are answered as it says, and calls that
//! break them are refused. Against `zoo.v1`, the contract with every kind of field and binding.

use super::{
    expected,
    support::{Edge, token},
    tools, zoo,
};
use serde_json::Value;
use std::path::Path;

/// For each operation, in each phase. More find no more, and take longer.
const EXAMPLES: &str = "20";
/// Fewer are made when something is wrong with the judge.
const LEAST_CALLS: u64 = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "installs Python packages: cargo xtask test schemathesis"]
async fn the_document_says_what_the_gateway_does() {
    let program = tools::python("schemathesis").with_file_name("schemathesis");
    let upstream = zoo::upstream().await;
    let edge = Edge::with(&zoo::config(upstream.at), gateway::Options::default()).await;
    let report = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis.json");
    let output = tokio::process::Command::new(program)
        .arg("run")
        .arg(format!("http://{}/openapi.json", edge.at.public))
        .args(["--seed", "1", "--max-examples", EXAMPLES, "--generation-database", "none", "--no-shrink"])
        .args(["--phases", "examples,coverage,fuzzing", "--checks", "all", "--continue-on-failure"])
        .args(["--request-timeout", "10", "--no-color", "--report", "json", "--report-json-path"])
        .arg(&report)
        .args(["--header", &format!("Authorization: Bearer {}", token("ann", "zoo zoo.write"))])
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", tools::folder("schemathesis"))
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .kill_on_drop(true)
        .output();
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    // 1: there are findings. What is else went wrong before or beside the tests.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["errors"], Value::Array(vec![]), "all calls could be made");
    assert!(report["test_cases"]["generated"].as_u64().unwrap() > LEAST_CALLS, "{}", report["test_cases"]);
    expected::compare("schemathesis", findings(&report));
}

/// `title: operation` for each.
fn findings(report: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().unwrap().clone();
    let of_one = |failure: &Value| {
        let title = failure["title"].as_str().unwrap().to_owned();
        list(&failure["operations"]).into_iter().map(move |it| format!("{title}: {}", it.as_str().unwrap()))
    };
    list(&report["failures"]).iter().flat_map(of_one).collect()
}
