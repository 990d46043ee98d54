//! Live features whose decisions come from Python: what is recommended is pushed as a person clicks, and a board's
//! subscribers get its forecast with its band, and its anomalies.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use blackbox::{Sut, random::unique, runner::Group, sut::expect_json, wait::within};
use reqwest::Method;
use serde_json::{Value, json};
use xtask::bench::channels::user::{Failure, User};

use super::app::{SOON, call, connect, numbers, pushed, subscribe};

const ALIEN: &str = "1214";
const ALIENS: &str = "1200";
const SPIKE: u64 = 900;

pub(crate) fn add(group: Group) -> Group {
    group
        .test("channels: recommendations are pushed to a person who clicks, and to nobody else", picks)
        .test("channels: a board's subscribers get its forecast band and its anomalies", board)
}

async fn picks(sut: Arc<Sut>) -> Result<()> {
    let (alice, bob) = (unique(), unique());
    let token = sut.token(&alice)?;
    let mut user = connect(&sut.address("public"), &token).await?;
    call(&mut user, "boards.list", &json!({})).await?; // Node.js is attached
    subscribe(&mut user, &format!("picks:{alice}"), None).await?;
    let mut other = connect(&sut.address("public"), &sut.token(&bob)?).await?;
    match subscribe(&mut other, &format!("picks:{alice}"), None).await {
        Err(Failure::Refused(error)) => ensure!(error.name() == "PERMISSION_DENIED", "{error:?}"),
        outcome => anyhow::bail!("another's picks: {outcome:?}"),
    }
    subscribe(&mut other, &format!("picks:{bob}"), None).await?;
    like(&sut, &token, ALIEN).await?;
    let picks = until(&mut user, |data| data["based_on"] == 1).await?;
    ensure!(picks["status"] == "fresh" && ids(&picks).contains(&ALIENS), "{picks}");
    ensure!(!ids(&picks).contains(&ALIEN), "what was clicked is recommended: {picks}");
    like(&sut, &token, ALIENS).await?;
    let picks = until(&mut user, |data| data["based_on"] == 2).await?;
    ensure!(!ids(&picks).contains(&ALIENS), "{picks}");
    // Whatever was pushed to the other would be on the way before the answer to his own click.
    like(&sut, &sut.token(&bob)?, ALIEN).await?;
    let picks = numbers(&pushed(&mut other).await?);
    ensure!(picks.iter().all(|picks| picks["based_on"] == 1), "another's picks were pushed: {picks:?}");
    Ok(())
}

async fn like(sut: &Sut, token: &str, film: &str) -> Result<()> {
    let path = format!("/api/catalogue/{film}/interactions");
    let request = sut.as_user(token, Method::POST, &path).json(&json!({"kind": "like", "key": unique()}));
    expect_json(request.send().await?, 200).await.map(drop)
}

fn ids(picks: &Value) -> Vec<&str> {
    let items = picks["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item["id"].as_str()).collect()
}

async fn board(sut: Arc<Sut>) -> Result<()> {
    let (token, name) = (sut.token(&unique())?, unique());
    let mut owner = connect(&sut.address("public"), &token).await?;
    call(&mut owner, "boards.put", &json!({"board": name, "devices": [name]})).await?;
    let mut viewer = connect(&sut.address("public"), &sut.token(&unique())?).await?;
    subscribe(&mut viewer, &format!("board:{name}"), None).await?;
    send(&sut, &token, &name, 0..40).await?;
    // Whichever comes first.
    let (mut forecast, mut judged) = (None, None);
    let shown = until(&mut viewer, |data| {
        match data["type"].as_str() {
            Some("forecast") if data["status"] == "fresh" => forecast = Some(data.clone()),
            Some("anomaly") if data["status"] == "normal" => judged = Some(data.clone()),
            _ => {}
        }
        forecast.is_some() && judged.is_some()
    });
    shown.await?;
    let (forecast, judged) = (forecast.context("a forecast")?, judged.context("a verdict")?);
    let points = forecast["points"].as_array().context("points")?;
    ensure!(points.len() >= 10, "{forecast}");
    for point in points {
        let [low, value, high] =
            ["low", "value", "high"].map(|part| point[part].as_f64().unwrap_or(f64::NAN));
        ensure!(low < value && value < high && (90.0..115.0).contains(&value), "{point} in {forecast}");
    }
    ensure!(judged["last_anomaly"].is_null(), "{judged}");
    // The spike, and then as usual, so that its window closes.
    send(&sut, &token, &name, 40..46).await?;
    let judged = until(&mut viewer, |data| !data["last_anomaly"].is_null()).await?;
    let anomaly = &judged["last_anomaly"];
    ensure!(anomaly["value"] == SPIKE && anomaly["start"] == 40_000, "{judged}");
    ensure!(anomaly["score"].as_f64().is_some_and(|score| score > 4.0), "{judged}");
    Ok(())
}

/// A value each second, between 100 and 103, but for a spike at 40.
async fn send(sut: &Sut, token: &str, device: &str, seconds: std::ops::Range<u64>) -> Result<()> {
    let value = |at: u64| if at == 40 { SPIKE } else { 100 + at * 7 % 4 };
    let points: Vec<_> = seconds
        .map(|at| json!({"device": device, "metric": "heat", "time": at * 1_000, "value": value(at)}))
        .collect();
    let sent = sut.as_user(token, Method::POST, "/api/telemetry").json(&json!({"points": points}));
    expect_json(sent.send().await?, 202).await.map(drop)
}

/// The first of the pushed values that fits.
async fn until(user: &mut User, mut fits: impl FnMut(&Value) -> bool) -> Result<Value> {
    within("the value", SOON, async {
        loop {
            if let Some(found) = numbers(&pushed(user).await?).into_iter().find(|data| fits(data)) {
                return Ok(found);
            }
        }
    })
    .await
}
