//! A gateway that is told to stop: what runs may end, what never ends is ended, and nothing new begins.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use blackbox::{Sut, runner::Group, sse::Events, wait::eventually};
use reqwest::Method;
use serde_json::json;
use xtask::stack::{Phase, Signal};

pub(crate) fn add(group: Group) -> Group {
    group
        .test("a stream that ends soon is drained to its end", drained)
        .test("a stream that never ends is ended within the bound", bounded)
        .test("every service stops cleanly on SIGTERM", clean)
}

/// Half of the gateway's `deadlines.drain`: nothing is ended by force.
const SOON: Duration = Duration::from_secs(5);
/// The gateway's `deadlines.drain`, and time to notice.
const DRAIN: Duration = Duration::from_secs(12);

async fn drained(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token("alice")?;
    let chat = json!({"messages": [{"role": "CHAT_ROLE_USER", "content": "Tell a story."}], "maxTokens": 60});
    let mut events =
        Events::from(sut.as_user(&token, Method::POST, "/v1/assistant:chat").json(&chat).send().await?)
            .await?;
    for _ in 0..3 {
        events.expect().await?;
    }
    sut.signal("gateway", Signal::TERM).await?;
    eventually("nothing new is taken", Duration::from_secs(2), || async {
        match sut.request(Method::GET, "/readyz").send().await {
            Ok(response) => ensure!(response.status() == 503, "status {}", response.status()),
            Err(error) => ensure!(error.is_connect(), "{error}"),
        }
        Ok(())
    })
    .await?;
    let rest = events.rest().await?;
    ensure!(rest.last().is_some_and(|event| event.name == "end"), "the last event is {:?}", rest.last());
    sut.wait_exit("gateway", SOON).await?;
    exited_cleanly(&sut, "gateway")
}

async fn bounded(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token("alice")?;
    let feed = sut.as_user(&token, Method::GET, "/api/changes").header("accept", "text/event-stream");
    let response = feed.send().await?;
    ensure!(response.status() == 200, "status {}", response.status());
    let mut editors = sut.editors()?;
    let note = sut.create_note(&token, "open while the gateway stops", "x").await?;
    let document = format!("note:{}", note["id"].as_str().unwrap_or_default());
    editors.open("open", &sut.collab_url(&token), &document).await?;
    let started = Instant::now();
    sut.signal("gateway", Signal::TERM).await?;
    sut.wait_exit("gateway", DRAIN).await?;
    ensure!(started.elapsed() < DRAIN, "it took {:?}", started.elapsed());
    exited_cleanly(&sut, "gateway")
}

async fn clean(sut: Arc<Sut>) -> Result<()> {
    for name in ["realtime", "ai"] {
        sut.signal(name, Signal::TERM).await?;
        sut.wait_exit(name, DRAIN).await?;
        exited_cleanly(&sut, name)?;
    }
    Ok(())
}

fn exited_cleanly(sut: &Sut, name: &str) -> Result<()> {
    let phase = sut.phase(name)?;
    ensure!(matches!(&phase, Phase::Exited(how) if how.ends_with("exit status: 0")), "{name}: {phase:?}");
    Ok(())
}
