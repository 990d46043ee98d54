//! HTTP/1.1 and HTTP/2, judged by httpwg: the cases of RFC 9112 and RFC 9113, against a route to an upstream.

use super::{
    expected,
    support::{self, Edge},
    tools,
};
use http::Response;
use http_body_util::BodyExt;
use std::{path::Path, process::Stdio};

/// Cases of the suite; fewer were run when something went wrong with it.
const CASES: usize = 107;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "compiles httpwg-cli: cargo xtask test httpwg"]
async fn the_httpwg_suite_passes_but_for_what_is_known() {
    let program = tools::cargo_program("httpwg-cli", "0.2.5", "httpwg");
    let upstream = support::http(|request| async move {
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let body = if body.is_empty() { "hello".into() } else { body };
        Response::new(support::full(body))
    })
    .await;
    let route = "[routes.all]\npath = \"/\"\nupstream = \"web\"\naccess = \"public\"";
    let edge = Edge::start(upstream.at, route).await;
    let output = tokio::process::Command::new(program)
        .args(["--address", &edge.at.public.to_string()])
        .args(["--frame-timeout", "2000", "--connect-timeout", "5000"])
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let said = output.await.unwrap();
    let said =
        without_colours(&(String::from_utf8_lossy(&said.stdout) + &*String::from_utf8_lossy(&said.stderr)));
    let cases = |start: &str| -> Vec<String> {
        said.lines().filter_map(|line| line.trim().strip_prefix(start)).map(str::to_owned).collect()
    };
    let (passed, mut failed) = (cases("✅ Test passed: "), cases("❌ Test failed: "));
    let panicked: Vec<_> = said.split("The application panicked").skip(1).filter_map(panicked).collect();
    failed.extend(panicked.into_iter().filter(|name| !passed.contains(name)));
    println!("httpwg: {} passed, {} failed", passed.len(), failed.len());
    let record = Path::new(env!("CARGO_TARGET_TMPDIR")).join("httpwg.txt");
    std::fs::write(&record, &said).unwrap();
    assert_eq!(passed.len() + failed.len(), CASES, "see {}", record.display());
    expected::compare("httpwg", failed);
}

/// The case that a backtrace comes from: `rfc9113::_7_error_codes::sends_x` is `RFC 9113 :: 7. error codes :: sends x`.
fn panicked(backtrace: &str) -> Option<String> {
    let (own, _) = backtrace.split_once("Run with ")?;
    let (_, path) = own.split_once("httpwg::rfc")?;
    let mut parts = path.split("::");
    let (rfc, chapter, name) = (parts.next()?, parts.next()?, parts.next()?);
    let chapter = chapter.trim_start_matches('_').replacen('_', ". ", 1);
    Some(format!("RFC {rfc} :: {chapter} :: {name}").replace('_', " "))
}

/// Takes the escape sequences out.
fn without_colours(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |plain, piece| plain + piece.split_once('m').map_or("", |(_, rest)| rest))
}
