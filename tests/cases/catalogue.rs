//! The catalogue: films and clicks go through Node, what is recommended comes from Python, and each does without
//! the other as far as it can.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use blackbox::{
    Sut,
    random::unique,
    runner::Group,
    sut::{expect_json, expect_problem},
    wait::eventually,
};
use reqwest::Method;
use serde_json::{Value, json};

const ALIEN: &str = "1214";
const ALIENS: &str = "1200";

pub(crate) fn add(group: Group) -> Group {
    group
        .test("a click in Node changes what Python recommends on the next page", click)
        .test("points of a series are judged line by line", anomalies)
}

/// What ends a service.
pub(crate) fn add_faults(group: Group) -> Group {
    group
        .test("Python killed: pages go on without recommendations, and no acknowledged click is lost", killed)
}

/// A page for a user, once the catalogue was copied.
async fn page(sut: &Sut, token: &str) -> Result<Value> {
    let path = "/api/catalogue?limit=3&recommend=50";
    eventually("a page", Duration::from_secs(20), || async {
        expect_json(sut.as_user(token, Method::GET, path).send().await?, 200).await
    })
    .await
}

async fn like(sut: &Sut, token: &str, film: &str, key: &str) -> Result<Value> {
    let path = format!("/api/catalogue/{film}/interactions");
    let request = sut.as_user(token, Method::POST, &path).json(&json!({"kind": "like", "key": key}));
    expect_json(request.send().await?, 200).await
}

fn ids(recommendations: &Value) -> Vec<&str> {
    let items = recommendations["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item["id"].as_str()).collect()
}

async fn click(sut: Arc<Sut>) -> Result<()> {
    let (token, other) = (sut.token(&unique())?, sut.token(&unique())?);
    let before = page(&sut, &token).await?;
    ensure!(before["total"] == 9066 && before["next_cursor"] == "3", "{before}");
    eventually("fresh recommendations", Duration::from_secs(5), || async {
        let recommendations = &page(&sut, &token).await?["recommendations"];
        ensure!(
            recommendations["status"] == "fresh" && recommendations["based_on"] == 0,
            "{recommendations}"
        );
        ensure!(!ids(recommendations).contains(&ALIENS), "{recommendations}");
        Ok(())
    })
    .await?;
    ensure!(
        like(&sut, &token, ALIEN, "k").await? == json!({"key": "k", "repeated": false}),
        "the first like"
    );
    ensure!(like(&sut, &token, ALIEN, "k").await? == json!({"key": "k", "repeated": true}), "the same again");
    // Python itself knows it at once; a page may be without it only where it says so.
    let own = sut.as_user(&token, Method::GET, "/v1/recommendations?limit=50").send().await?;
    let own = expect_json(own, 200).await?;
    ensure!(own["basedOn"] == 1 && own.to_string().contains("\"Aliens\""), "{own}");
    eventually("the like on the next page", Duration::from_secs(5), || async {
        let recommendations = &page(&sut, &token).await?["recommendations"];
        ensure!(
            recommendations["based_on"] == 1 && ids(recommendations).contains(&ALIENS),
            "{recommendations}"
        );
        ensure!(recommendations["items"][0]["because"] == ALIEN, "{recommendations}");
        Ok(())
    })
    .await?;
    let others = sut.as_user(&other, Method::GET, "/v1/recommendations").send().await?;
    let others = expect_json(others, 200).await?;
    ensure!(others.get("basedOn").is_none_or(|count| count == 0), "somebody else's like counts: {others}");
    Ok(())
}

async fn anomalies(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token(&unique())?;
    let mut lines = String::new();
    for number in 0..40 {
        let value = if number == 30 { 900 } else { 100 + number % 4 };
        lines += &format!("{}\n", json!({"value": value}));
    }
    let request = sut.as_user(&token, Method::POST, "/v1/series:detectAnomalies").body(lines);
    let request =
        request.header("content-type", "application/x-ndjson").header("accept", "application/x-ndjson");
    let text = request.send().await?.error_for_status()?.text().await?;
    let verdicts: Vec<Value> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .with_context(|| text.clone())?;
    ensure!(verdicts.len() == 40, "{} verdicts", verdicts.len());
    for (number, verdict) in verdicts.iter().enumerate() {
        let anomaly = verdict["verdict"] == "VERDICT_ANOMALY";
        ensure!(anomaly == (number == 30), "point {number}: {verdict}");
    }
    Ok(())
}

async fn killed(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token(&unique())?;
    page(&sut, &token).await?;
    like(&sut, &token, ALIEN, "before").await?;
    sut.kill("ai").await?;
    let started = Instant::now();
    let without = page(&sut, &token).await?;
    let took = started.elapsed();
    ensure!(took < Duration::from_secs(3), "the page took {took:?}");
    ensure!(without["items"].as_array().is_some_and(|items| items.len() == 3), "{without}");
    ensure!(without["recommendations"]["status"] == "missing", "{without}");
    let path = format!("/api/catalogue/{ALIENS}/interactions");
    let refused = sut.as_user(&token, Method::POST, &path).json(&json!({"kind": "like", "key": "lost"}));
    expect_problem(refused.send().await?, 503, "unavailable").await?;
    sut.restart("ai").await?;
    eventually("the acknowledged like, and it alone", Duration::from_secs(20), || async {
        let recommendations = &page(&sut, &token).await?["recommendations"];
        ensure!(
            recommendations["status"] == "fresh" && recommendations["based_on"] == 1,
            "{recommendations}"
        );
        Ok(())
    })
    .await
}
