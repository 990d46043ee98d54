//! The README's requests, run as they stand there, only against this stack's port.

use std::{
    fs,
    process::Output,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use blackbox::{Sut, random::unique, runner::Group};
use tokio::{process::Command, time::sleep};

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
        // What was saved is found within a second: until then it is asked for again.
        let patience = Instant::now() + Duration::from_secs(2);
        loop {
            let output = Command::new("sh")
                .args(["-c", &format!("{command} -sS -w '\\n%{{http_code}}'")])
                .envs([("ALICE", &alice), ("BOB", &bob)])
                .output()
                .await?;
            match check(request, &output) {
                Err(_) if finds(request) && Instant::now() < patience => {
                    sleep(Duration::from_millis(50)).await
                }
                result => break result?,
            }
        }
    }
    Ok(())
}

/// Whether Alice looks for the note that she has just saved.
fn finds(request: &str) -> bool {
    request.contains("/v1/search") && request.contains("$ALICE")
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
    ensure!(!finds(request) || body.contains("kettle"), "{request}\nAlice's note is not found: {body}");
    ensure!(
        !request.contains("$BOB") || !body.contains("kettle"),
        "{request}\nBob finds Alice's note: {body}"
    );
    Ok(())
}
