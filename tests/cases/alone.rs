//! The gateway without any upstream: it starts, is healthy, and says what cannot be had.

use std::sync::Arc;

use anyhow::{Result, ensure};
use blackbox::{Sut, runner::Group, sut::expect_problem};
use reqwest::Method;
use serde_json::json;

pub(crate) fn add(group: Group) -> Group {
    group
        .test("it is healthy without upstreams", healthy)
        .test("without upstreams both planes answer 503 with Retry-After", unavailable)
        .test("without upstreams a wrong request is still told so", still_checks)
}

async fn healthy(sut: Arc<Sut>) -> Result<()> {
    for path in ["/healthz", "/readyz"] {
        let response = sut.request(Method::GET, path).send().await?;
        let (status, body) = (response.status(), response.text().await?);
        ensure!(status == 200 && body.trim() == "ok", "{path}: {status} {body:?}");
    }
    let page = sut.request(Method::GET, "/").send().await?;
    ensure!(page.status() == 200, "the page: {}", page.status());
    Ok(())
}

async fn unavailable(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token("alice")?;
    let requests = [
        sut.as_user(&token, Method::GET, "/api/notes"),
        sut.as_user(&token, Method::POST, "/v1/text:embed").json(&json!({"texts": ["x"]})),
        sut.request(Method::POST, "/v1/assistant:answer").json(&json!({"question": "why"})),
    ];
    for request in requests {
        let response = request.send().await?;
        ensure!(response.headers().contains_key("retry-after"), "{}: no Retry-After", response.url());
        expect_problem(response, 503, "upstream_unavailable").await?;
    }
    Ok(())
}

async fn still_checks(sut: Arc<Sut>) -> Result<()> {
    let response = sut.request(Method::GET, "/api/notes").send().await?;
    expect_problem(response, 401, "unauthenticated").await?;
    let token = sut.token("alice")?;
    let request = sut.as_user(&token, Method::POST, "/v1/text:embed").json(&json!({"texts": 1}));
    expect_problem(request.send().await?, 400, "invalid_argument").await?;
    expect_problem(sut.request(Method::GET, "/nowhere").send().await?, 404, "not_found").await?;
    Ok(())
}
