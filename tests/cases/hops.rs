//! What reaches every hop: the request's id, the trace, and the deadline; and what the answer says of the hops.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use blackbox::{Sut, random::unique, runner::Group, sse::Events, sut::expect_problem, wait::eventually};
use reqwest::{Method, Response};
use serde_json::json;

pub(crate) fn add(group: Group) -> Group {
    group
        .test("a request's id is in the answer and in each service's log", request_id)
        .test("a bad request id is replaced", bad_request_id)
        .test("a trace goes on in each service", trace)
        .test("an answer says how long each hop took", server_timing)
        .test("a deadline ends a call with a 504", deadline_of_a_call)
}

/// What needs the language model for itself.
pub(crate) fn add_alone(group: Group) -> Group {
    group.test("a deadline ends a stream with an error event", deadline_of_a_stream)
}

/// A line of the service's log holds `text`; the log may be a moment behind.
async fn logged(sut: &Sut, service: &str, text: &str) -> Result<()> {
    eventually(&format!("{text} in the log of {service}"), Duration::from_secs(2), || async {
        ensure!(sut.log(service).contains(text), "it is not there");
        Ok(())
    })
    .await
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// One request on each plane, with the service that serves it.
async fn on_each_plane(sut: &Sut, name: &str, value: &str) -> Result<[(&'static str, Response); 2]> {
    let token = sut.token("alice")?;
    let web = sut.as_user(&token, Method::GET, "/api/notes").header(name, value).send().await?;
    let embed = sut.as_user(&token, Method::POST, "/v1/text:embed").header(name, value);
    let ai = embed.json(&json!({"texts": ["x"]})).send().await?;
    Ok([("realtime", web), ("ai", ai)])
}

async fn request_id(sut: Arc<Sut>) -> Result<()> {
    let id = unique();
    for (service, response) in on_each_plane(&sut, "x-request-id", &id).await? {
        ensure!(response.status() == 200, "{service}: {}", response.status());
        ensure!(header(&response, "x-request-id") == id, "{service}: {:?}", response.headers());
        logged(&sut, service, &id).await?;
    }
    Ok(())
}

async fn bad_request_id(sut: Arc<Sut>) -> Result<()> {
    for bad in ["has space", "semi;colon", &"x".repeat(65)] {
        for (service, response) in on_each_plane(&sut, "x-request-id", bad).await? {
            let id = header(&response, "x-request-id");
            let made = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            ensure!(made, "{service}: {bad:?} became {id:?}");
        }
    }
    Ok(())
}

async fn trace(sut: Arc<Sut>) -> Result<()> {
    let trace: String =
        unique().bytes().chain(unique().bytes()).take(16).map(|b| format!("{b:02x}")).collect();
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    for (service, _) in on_each_plane(&sut, "traceparent", &parent).await? {
        logged(&sut, service, &trace).await?;
    }
    Ok(())
}

async fn server_timing(sut: Arc<Sut>) -> Result<()> {
    for (service, response) in on_each_plane(&sut, "accept", "application/json").await? {
        let timing = header(&response, "server-timing");
        ensure!(timing.contains("gateway;dur=") && timing.contains("upstream;dur="), "{service}: {timing:?}");
    }
    Ok(())
}

async fn deadline_of_a_call(sut: Arc<Sut>) -> Result<()> {
    // Far more work than 50 ms allow.
    let texts = vec!["the quick brown fox jumps over the lazy dog ".repeat(20); 256];
    let token = sut.token("alice")?;
    let started = Instant::now();
    let request = sut.as_user(&token, Method::POST, "/v1/text:embed").header("request-timeout", "0.05");
    let response = request.json(&json!({"texts": texts})).send().await?;
    expect_problem(response, 504, "gateway_timeout").await?;
    ensure!(started.elapsed() < Duration::from_secs(1), "it took {:?}", started.elapsed());
    Ok(())
}

async fn deadline_of_a_stream(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token("alice")?;
    let body =
        json!({"messages": [{"role": "CHAT_ROLE_USER", "content": "Tell a long story."}], "maxTokens": 1024});
    let request = sut.as_user(&token, Method::POST, "/v1/assistant:chat").header("request-timeout", "3");
    let mut events = Events::from(request.json(&body).send().await?).await?;
    let started = Instant::now();
    let events = events.rest().await?;
    let last = events.last().cloned().unwrap_or_default();
    ensure!(last.name == "error", "the last event is {last:?}");
    ensure!(last.json()?["code"] == "gateway_timeout", "{last:?}");
    ensure!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
    Ok(())
}
