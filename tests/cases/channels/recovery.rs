//! Coming back: after a restart of the gateway, from an epoch that is gone, from an offset that is still to come, and
//! with keys that were used before.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use blackbox::{
    Sut,
    random::unique,
    runner::Group,
    sut::expect_json,
    wait::{eventually, within},
};
use reqwest::Method;
use serde_json::json;
use xtask::{
    bench::channels::{
        user::{User, retry_after},
        wire::{Encoding, Position},
    },
    stack::Signal,
};

use super::app::{
    SOON, anonymous, attach, call, connect, numbers, publish, pushed, resume, say, subscribe, ticket,
};

pub(crate) fn add(group: Group) -> Group {
    group
        .test("channels after a restart of the gateway: drained, resumed, told to load anew", restarted)
        .test("channels: a gateway that stops is not held up by a board's stream of verdicts", verdicts)
        .test("channels from another epoch or from the future: told to load anew", nowhere)
        .test("channels: a key that was used before a restart of Node or the gateway counts once", keys)
}

async fn restarted(sut: Arc<Sut>) -> Result<()> {
    let app = attach(&sut).await?;
    let (mut user, channel) = (anonymous(&sut).await?, format!("open:{}", unique()));
    let before = subscribe(&mut user, &channel, None).await?.position.context("a position")?;
    let ticket = ticket(&mut user).await?;
    say(&mut user, &channel, 0..3).await?;
    sut.signal("gateway", Signal::TERM).await?;
    let (code, reason) = within("the close frame", SOON, user.closed()).await?;
    ensure!(code == 4000, "closed with {code} {reason}");
    retry_after(&reason)?;
    sut.wait_exit("gateway", SOON).await?;
    drop(app);
    sut.restart("gateway").await?;
    let _app = attach(&sut).await?;
    let connect = resume(&ticket, &channel, Some(before.clone()));
    let mut user = User::connect(&sut.address("public"), Encoding::Json, connect).await?;
    ensure!(
        user.connected.resumed,
        "the ticket is good at any gateway with its secret: {:?}",
        user.connected
    );
    let again = user.connected.subscriptions.first().context("a subscription")?.clone();
    ensure!(again.error.is_none() && !again.recovered, "{again:?}");
    let after = again.position.context("a position")?;
    ensure!(after.epoch != before.epoch && after.offset == 0, "{after:?} after {before:?}");
    say(&mut user, &channel, 7..8).await?;
    let publications = pushed(&mut user).await?;
    ensure!(numbers(&publications) == [json!(7)], "{publications:?}");
    Ok(())
}

async fn verdicts(sut: Arc<Sut>) -> Result<()> {
    let judged =
        || async { anyhow::Ok(sut.metrics("realtime").await?.sum("realtime_board_verdicts_total", &[])) };
    let (token, device) = (sut.token(&unique())?, unique());
    let mut user = connect(&sut.address("public"), &token).await?;
    call(&mut user, "boards.put", &json!({"board": device, "devices": [device]})).await?;
    let before = judged().await?;
    let points: Vec<_> = (0..20)
        .map(|at| json!({"device": device, "metric": "heat", "time": at * 1_000, "value": at}))
        .collect();
    let sent = sut.as_user(&token, Method::POST, "/api/telemetry").json(&json!({"points": points}));
    expect_json(sent.send().await?, 202).await?;
    eventually("verdicts", SOON, || async {
        ensure!(judged().await? > before, "no window is judged");
        Ok(())
    })
    .await?;
    drop(user);
    sut.signal("gateway", Signal::TERM).await?;
    // Half of its `deadlines.drain`, at which it would end what is still open.
    sut.wait_exit("gateway", Duration::from_secs(5)).await?;
    sut.restart("gateway").await
}

async fn nowhere(sut: Arc<Sut>) -> Result<()> {
    let _app = attach(&sut).await?;
    let (mut writer, channel) = (anonymous(&sut).await?, format!("open:{}", unique()));
    let start = subscribe(&mut writer, &channel, None).await?.position.context("a position")?;
    say(&mut writer, &channel, 0..5).await?;
    let from = |epoch: &str, offset| Some(Position { epoch: epoch.into(), offset });
    let mut reader = anonymous(&sut).await?;
    let good = subscribe(&mut reader, &channel, from(&start.epoch, start.offset)).await?;
    ensure!(good.recovered, "{good:?}");
    // What does not fit into the reply follows.
    let mut missed = numbers(&good.publications);
    while missed.len() < 5 {
        missed.extend(numbers(&pushed(&mut reader).await?));
    }
    ensure!(missed == [0, 1, 2, 3, 4].map(|number| json!(number)), "{missed:?}");
    let top = subscribe(&mut anonymous(&sut).await?, &channel, None).await?.position.context("a position")?;
    for (why, place) in [
        ("another epoch", from("gone", start.offset)),
        ("no epoch", from("", start.offset)),
        ("the future", from(&start.epoch, top.offset + 1000)),
        ("the end of time", from(&start.epoch, u64::MAX)),
    ] {
        let found = subscribe(&mut anonymous(&sut).await?, &channel, place).await?;
        let position = found.position.with_context(|| format!("{why}: a position"))?;
        ensure!(!found.recovered && found.publications.is_empty(), "{why}: {:?}", found.publications);
        ensure!(position == top, "{why}: {position:?}, and the newest place is {top:?}");
    }
    Ok(())
}

async fn keys(sut: Arc<Sut>) -> Result<()> {
    let (token, room) = (sut.token(&unique())?, unique());
    let (channel, address) = (format!("chat:{room}"), sut.address("public"));
    let said = json!({"type": "message", "text": "said once"});
    let mut user = connect(&address, &token).await?;
    call(&mut user, "chat.create", &json!({"room": room})).await?;
    let first = publish(&mut user, &channel, &said, "the key").await?;
    sut.kill("realtime").await?;
    sut.restart("realtime").await?;
    let second = publish(&mut user, &channel, &said, "the key").await?;
    ensure!(second.duplicate && second.position == first.position, "{second:?} after {first:?}");
    // Without the gateway's log the application knows it.
    sut.kill("gateway").await?;
    sut.restart("gateway").await?;
    let mut user = connect(&address, &token).await?;
    publish(&mut user, &channel, &said, "the key").await?;
    let page = call(&mut user, "chat.history", &json!({"room": room, "after": 0, "limit": 100})).await?;
    let mut texts = HashMap::<String, usize>::new();
    for message in page["messages"].as_array().context("messages")? {
        *texts.entry(message["text"].to_string()).or_default() += 1;
    }
    ensure!(texts == HashMap::from([(json!("said once").to_string(), 1)]), "{texts:?}");
    Ok(())
}
