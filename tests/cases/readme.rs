//! The README's requests, run as they stand there, only against this stack's port.

use std::{fs, process::Output, sync::Arc};

use anyhow::{Context, Result, ensure};
use blackbox::{Sut, random::unique, runner::Group};
use tokio::process::Command;

pub(crate) fn add(group: Group) -> Group {
    group.test("the README's requests do what it says", as_written)
}

async fn as_written(sut: Arc<Sut>) -> Result<()> {
    let readme = fs::read_to_string(xtask::root().join("README.md"))?;
    let requests: Vec<&str> = readme.lines().filter(|line| line.starts_with("curl ")).collect();
    ensure!(requests.len() >= 4, "the README has {} requests", requests.len());
    // Fresh users, so that what other tests wrote is not in the way.
    let (alice, bob) = (sut.token(&unique())?, sut.token(&unique())?);
    for request in requests {
        let command = request.replace("localhost:8080", &sut.address("public"));
        let output = Command::new("sh")
            .args(["-c", &format!("{command} -sS -w '\\n%{{http_code}}'")])
            .envs([("ALICE", &alice), ("BOB", &bob)])
            .output()
            .await?;
        check(request, &output)?;
    }
    Ok(())
}

fn check(request: &str, output: &Output) -> Result<()> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{request}\n{err}");
    let (body, status) = out.trim_end().rsplit_once('\n').context("no status")?;
    // The README shows one mistake, the field `text` where it is `texts`.
    let expected = if request.contains("{\"text\": \"one\"}") { "400" } else { "20" };
    ensure!(status.starts_with(expected), "{request}\n{status} {body}");
    let streams = request.contains(" -N ");
    ensure!(!streams || body.contains("event: end"), "{request}\nThe stream has no end: {body}");
    ensure!(
        !request.contains("$BOB") || !body.contains("kettle"),
        "{request}\nBob finds Alice's note: {body}"
    );
    Ok(())
}
