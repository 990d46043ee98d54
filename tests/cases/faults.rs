//! A service that is down or dies: what its users see, and that the others' users see nothing.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use blackbox::{
    Sut,
    random::unique,
    runner::Group,
    sse::Events,
    sut::{expect_json, expect_problem},
    wait::eventually,
};
use reqwest::{Method, Response};
use serde_json::json;

pub(crate) fn add(group: Group) -> Group {
    group
        .test("Python down: answers are 503, notes work and are indexed when it returns", python_down)
        .test("Node down: AI works, notes are 503", node_down)
        .test("Python killed in mid-stream: the stream ends with an error event", python_killed)
        .test("Node killed: a feed of changes breaks and resumes without a loss", node_killed)
}

async fn unavailable(response: Response) -> Result<()> {
    let retry =
        response.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    ensure!(retry.is_some_and(|seconds: u64| seconds > 0), "Retry-After: {retry:?}");
    expect_problem(response, 503, "upstream_unavailable").await?;
    Ok(())
}

async fn python_down(sut: Arc<Sut>) -> Result<()> {
    let (token, word, gone) = (sut.token(&unique())?, unique(), unique());
    sut.kill("ai").await?;
    let question = json!({"question": "What is the gateway?"});
    // A call that is sent in the very moment of the break may have been begun: it is a 502, without a word of trying again.
    eventually("the break to be known", Duration::from_secs(1), || async {
        unavailable(sut.request(Method::POST, "/v1/assistant:answer").json(&question).send().await?).await
    })
    .await?;
    let chat = json!({"messages": [{"role": "CHAT_ROLE_USER", "content": "hi"}]});
    unavailable(sut.as_user(&token, Method::POST, "/v1/assistant:chat").json(&chat).send().await?).await?;
    unavailable(sut.request(Method::GET, "/v1/search?query=x").send().await?).await?;
    let note = sut.create_note(&token, "kept", &format!("Saved while Python was away: {word}.")).await?;
    let deleted = sut.create_note(&token, "gone", &format!("Deleted while Python was away: {gone}.")).await?;
    let path = format!("/api/notes/{}", deleted["id"].as_str().unwrap_or_default());
    sut.as_user(&token, Method::DELETE, &path).send().await?.error_for_status()?;
    sut.restart("ai").await?;
    let id = format!("notes/{}", note["id"].as_str().unwrap_or_default());
    eventually("the note in the index", Duration::from_secs(20), || async {
        let found = sut.search_words(&token, &word).await?;
        ensure!(found == [id.clone()], "found {found:?}");
        Ok(())
    })
    .await?;
    let found = sut.search_words(&token, &gone).await?;
    ensure!(found.is_empty(), "the deleted note is found: {found:?}");
    Ok(())
}

async fn node_down(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token("alice")?;
    sut.kill("realtime").await?;
    unavailable(sut.as_user(&token, Method::GET, "/api/notes").send().await?).await?;
    let embed = sut.as_user(&token, Method::POST, "/v1/text:embed").json(&json!({"texts": ["still here"]}));
    expect_json(embed.send().await?, 200).await?;
    expect_json(sut.request(Method::GET, "/v1/search?query=gateway").send().await?, 200).await?;
    let answer =
        sut.request(Method::POST, "/v1/assistant:answer").json(&json!({"question": "What is the gateway?"}));
    let events = Events::from(answer.send().await?).await?.rest().await?;
    ensure!(events.last().is_some_and(|event| event.name == "end"), "{:?}", events.last());
    Ok(())
}

async fn python_killed(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token("alice")?;
    let chat =
        json!({"messages": [{"role": "CHAT_ROLE_USER", "content": "Tell a long story."}], "maxTokens": 1024});
    let mut events =
        Events::from(sut.as_user(&token, Method::POST, "/v1/assistant:chat").json(&chat).send().await?)
            .await?;
    for _ in 0..5 {
        let event = events.expect().await?;
        ensure!(event.name == "message", "{event:?}");
    }
    sut.kill("ai").await?;
    let rest = events.rest().await?;
    let last = rest.last().cloned().unwrap_or_default();
    ensure!(last.name == "error", "the last event is {last:?}");
    let problem = last.json()?;
    let code = problem["code"].as_str().unwrap_or_default();
    ensure!(["upstream_unavailable", "bad_gateway"].contains(&code), "{problem}");
    ensure!(problem["status"].as_u64().is_some_and(|s| s == 502 || s == 503), "{problem}");
    ensure!(problem["request_id"].is_string(), "{problem}");
    Ok(())
}

async fn node_killed(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token(&unique())?;
    let request = |last: Option<String>| {
        let request = sut.as_user(&token, Method::GET, "/api/changes").header("accept", "text/event-stream");
        last.map_or(request.try_clone(), |last| Some(request.header("last-event-id", last)))
    };
    let send = |last| async {
        Ok::<_, anyhow::Error>(request(last).ok_or_else(|| anyhow::anyhow!("a request"))?.send().await?)
    };
    let mut events = Events::from(send(None).await?).await?;
    let first = sut.create_note(&token, "before", "1").await?;
    let cursor = loop {
        let event = events.expect().await?;
        if event.data.contains(first["id"].as_str().unwrap_or_default()) {
            break event.id;
        }
    };
    sut.kill("realtime").await?;
    let ended = tokio::time::timeout(Duration::from_secs(5), events.next()).await;
    ensure!(!matches!(ended, Ok(Ok(Some(_))) | Err(_)), "the feed went on: {ended:?}");
    sut.restart("realtime").await?;
    let second = eventually("a note after the restart", Duration::from_secs(10), || {
        sut.create_note(&token, "after", "2")
    })
    .await?;
    let mut events = Events::from(send(cursor).await?).await?;
    let next = loop {
        let event = events.expect().await?;
        if event.name != "ready" {
            break event;
        }
    };
    ensure!(next.data.contains(second["id"].as_str().unwrap_or_default()), "resumed with {next:?}");
    Ok(())
}
