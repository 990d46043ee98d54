//! What opens a door: tickets that are forged, of somebody else's channel, or at their end; and another's room.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use blackbox::{Sut, random::unique, runner::Group, tokens, wait::within};
use serde_json::json;
use xtask::bench::channels::{
    user::User,
    wire::{Connect, Encoding},
};

use super::app::{SOON, anonymous, attach, call, connect, refused, resume, subscribe};

pub(crate) fn add(group: Group) -> Group {
    group
        .test("channels: a forged ticket opens nothing", forged)
        .test("channels: a ticket ends with its token", expired)
        .test("channels: a ticket does not grant what was not subscribed", not_granted)
        .test("channels: another's room stays closed", private_room)
}

async fn forged(sut: Arc<Sut>) -> Result<()> {
    let user = anonymous(&sut).await?;
    let good = user.connected.ticket.clone().context("a ticket")?.ticket;
    let middle = good.len() / 2;
    let other = if good.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let changed = format!("{}{other}{}", &good[..middle], &good[middle + 1..]);
    let cut = good[..good.len() - 4].to_owned();
    for ticket in [changed, cut, "x".into(), "e30.e30.".into()] {
        let connect = Connect { ticket: ticket.clone(), ..Connect::default() };
        let outcome = User::connect(&sut.address("public"), Encoding::Json, connect).await;
        refused(outcome, "UNAUTHENTICATED").with_context(|| format!("ticket {ticket:?}"))?;
    }
    let connect = Connect { ticket: good, ..Connect::default() };
    let again = User::connect(&sut.address("public"), Encoding::Json, connect).await?;
    ensure!(again.connected.resumed, "the ticket itself is good");
    Ok(())
}

async fn expired(sut: Arc<Sut>) -> Result<()> {
    let mut claims = tokens::claims(&unique(), tokens::ALL_SCOPES);
    claims["exp"] = (tokens::now() + 3).into();
    let mut user = User::with_token(&sut.address("public"), &sut.token_with(&claims)?).await?;
    let ticket = user.connected.ticket.clone().context("a ticket")?.ticket;
    let (code, reason) = within("the session's end", SOON, user.closed()).await?;
    ensure!(code == 4003, "closed with {code} {reason}");
    let connect = Connect { ticket, ..Connect::default() };
    let outcome = User::connect(&sut.address("public"), Encoding::Json, connect).await;
    refused(outcome, "EXPIRED")
}

async fn not_granted(sut: Arc<Sut>) -> Result<()> {
    let app = attach(&sut).await?;
    let mut user = anonymous(&sut).await?;
    let (mine, other) = (format!("bench:{}", unique()), format!("bench:{}", unique()));
    let ticket = user.connected.ticket.clone().context("a ticket")?.ticket;
    subscribe(&mut user, &mine, None).await?;
    let asks = app.asks();
    // The ticket of the connect knows no subscription yet.
    let address = sut.address("public");
    let user = User::connect(&address, Encoding::Protobuf, resume(&ticket, &other, None)).await?;
    let found = user.connected.subscriptions.first().context("a subscription")?;
    ensure!(found.error.is_some(), "a channel that was never granted: {found:?}");
    ensure!(app.asks() == asks, "the application was asked");
    Ok(())
}

async fn private_room(sut: Arc<Sut>) -> Result<()> {
    let (owner, stranger, room) = (sut.token(&unique())?, sut.token(&unique())?, unique());
    let address = sut.address("public");
    let mut owner = connect(&address, &owner).await?;
    call(&mut owner, "chat.create", &json!({"room": room, "private": true})).await?;
    subscribe(&mut owner, &format!("chat:{room}"), None).await?;
    let mut stranger = connect(&address, &stranger).await?;
    for namespace in ["chat", "typing", "answers"] {
        let outcome = subscribe(&mut stranger, &format!("{namespace}:{room}"), None).await;
        refused(outcome, "PERMISSION_DENIED").with_context(|| namespace.to_owned())?;
    }
    let said = json!({"type": "message", "text": "let me in"});
    refused(stranger.publish(&format!("chat:{room}"), &said, "k").await, "PERMISSION_DENIED")?;
    let page = json!({"room": room, "after": 0, "limit": 10});
    refused(stranger.call("chat.history", &page).await, "PERMISSION_DENIED")
}
