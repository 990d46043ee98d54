//! Notes: kept with revisions, private unless shared, found by search within a second, and told in a feed.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use blackbox::{
    Sut,
    random::unique,
    runner::Group,
    sse::Events,
    sut::expect_json,
    wait::{every, within},
};
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) fn add(group: Group) -> Group {
    group
        .test("a note is created, changed with its ETag, and deleted", lifecycle)
        .test("a note is found by search within a second, changed and deleted too", found_within_a_second)
        .test("another user's note is a 404 by id", hidden_by_id)
        .test("another user's note is not found by search until it is shared", hidden_in_search)
        .test("a list has pages", pages)
        .test("the feed of changes resumes where it was left", feed_resumes)
        .test("the feed tells nothing of other users' notes", feed_is_private)
}

fn path(note: &Value) -> String {
    format!("/api/notes/{}", note["id"].as_str().unwrap_or_default())
}

async fn lifecycle(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token(&unique())?;
    let note = sut.create_note(&token, "first", "the text").await?;
    let response = sut.as_user(&token, Method::GET, &path(&note)).send().await?;
    let etag = response.headers().get("etag").context("no ETag")?.to_str()?.to_owned();
    let read = expect_json(response, 200).await?;
    ensure!(read == note, "{read} differs from {note}");
    let unchanged =
        sut.as_user(&token, Method::GET, &path(&note)).header("if-none-match", &etag).send().await?;
    ensure!(unchanged.status() == 304, "If-None-Match: {}", unchanged.status());
    let put = |etag: Option<&str>| {
        let request =
            sut.as_user(&token, Method::PUT, &path(&note)).json(&json!({"title": "t", "text": "changed"}));
        etag.map_or(request.try_clone(), |etag| Some(request.header("if-match", etag))).context("a request")
    };
    ensure!(put(None)?.send().await?.status() == 428, "without If-Match");
    let changed = expect_json(put(Some(&etag))?.send().await?, 200).await?;
    ensure!(changed["text"] == "changed" && changed["revision"] != note["revision"], "{changed}");
    ensure!(put(Some(&etag))?.send().await?.status() == 412, "with a stale If-Match");
    ensure!(sut.as_user(&token, Method::DELETE, &path(&note)).send().await?.status() == 204, "delete");
    ensure!(
        sut.as_user(&token, Method::GET, &path(&note)).send().await?.status() == 404,
        "after the deletion"
    );
    Ok(())
}

/// Waits until the search for `word` finds the note, or no longer does; within the second that is promised.
async fn searched(sut: &Sut, token: &str, word: &str, id: &str, there: bool) -> Result<()> {
    let what = format!("search for {word} with the note there: {there}");
    every(Duration::from_millis(50), &what, Duration::from_secs(1), || async {
        let found = sut.search_words(token, word).await?;
        ensure!(found.iter().any(|document| document == id) == there, "found {found:?}");
        Ok(())
    })
    .await
}

async fn found_within_a_second(sut: Arc<Sut>) -> Result<()> {
    let (token, before, after) = (sut.token(&unique())?, unique(), unique());
    let note = sut.create_note(&token, "to be found", &format!("It is about {before}.")).await?;
    let id = format!("notes/{}", note["id"].as_str().unwrap_or_default());
    searched(&sut, &token, &before, &id, true).await?;
    let etag = format!("\"{}\"", note["revision"]);
    let etag = sut
        .as_user(&token, Method::GET, &path(&note))
        .send()
        .await?
        .headers()
        .get("etag")
        .and_then(|v| v.to_str().ok())
        .map_or(etag, str::to_owned);
    let change = json!({"title": "to be found", "text": format!("Now {after}.")});
    let put = sut.as_user(&token, Method::PUT, &path(&note)).header("if-match", etag).json(&change);
    expect_json(put.send().await?, 200).await?;
    searched(&sut, &token, &after, &id, true).await?;
    searched(&sut, &token, &before, &id, false).await?;
    sut.as_user(&token, Method::DELETE, &path(&note)).send().await?.error_for_status()?;
    searched(&sut, &token, &after, &id, false).await
}

async fn hidden_by_id(sut: Arc<Sut>) -> Result<()> {
    let (owner, other) = (sut.token(&unique())?, sut.token(&unique())?);
    let note = sut.create_note(&owner, "mine", "alone").await?;
    let body = json!({"title": "x", "text": "y"});
    let readers = format!("{}/readers", path(&note));
    let attempts = [
        sut.as_user(&other, Method::GET, &path(&note)),
        sut.as_user(&other, Method::DELETE, &path(&note)),
        sut.as_user(&other, Method::PUT, &path(&note)).header("if-match", "*").json(&body),
        sut.as_user(&other, Method::PUT, &readers).json(&json!({"readers": ["*"]})),
    ];
    for attempt in attempts {
        let response = attempt.send().await?;
        ensure!(response.status() == 404, "status {}: {}", response.status(), response.text().await?);
    }
    let kept = sut.as_user(&owner, Method::GET, &path(&note)).send().await?;
    ensure!(expect_json(kept, 200).await? == note, "the note was changed");
    Ok(())
}

async fn hidden_in_search(sut: Arc<Sut>) -> Result<()> {
    let (reader, word) = (unique(), unique());
    let (owner_token, reader_token) = (sut.token(&unique())?, sut.token(&reader)?);
    let note = sut.create_note(&owner_token, "mine", &format!("Only {word} matters here.")).await?;
    let id = format!("notes/{}", note["id"].as_str().unwrap_or_default());
    searched(&sut, &owner_token, &word, &id, true).await?;
    for mode in ["SEARCH_MODE_HYBRID", "SEARCH_MODE_VECTOR", "SEARCH_MODE_TEXT"] {
        let query = [("query", word.as_str()), ("mode", mode), ("limit", "100")];
        let search = sut.as_user(&reader_token, Method::GET, "/v1/search").query(&query);
        let found = expect_json(search.send().await?, 200).await?;
        ensure!(!found.to_string().contains(&word), "{mode} showed it: {found}");
    }
    let anonymous = sut.request(Method::GET, "/v1/search").query(&[("query", &word)]);
    ensure!(!anonymous.send().await?.text().await?.contains(&word), "an anonymous search showed it");
    let share = sut.as_user(&owner_token, Method::PUT, &format!("{}/readers", path(&note)));
    share.json(&json!({"readers": [reader]})).send().await?.error_for_status()?;
    searched(&sut, &reader_token, &word, &id, true).await?;
    expect_json(sut.as_user(&reader_token, Method::GET, &path(&note)).send().await?, 200).await?;
    Ok(())
}

async fn pages(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token(&unique())?;
    for number in 0..5 {
        sut.create_note(&token, &format!("note {number}"), "x").await?;
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for _ in 0..5 {
        let mut query = vec![("limit", "2")];
        if !cursor.is_empty() {
            query.push(("cursor", cursor.as_str()));
        }
        let page = sut.as_user(&token, Method::GET, "/api/notes").query(&query).send().await?;
        let page = expect_json(page, 200).await?;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        ensure!(items.len() <= 2, "{} items on a page of 2", items.len());
        seen.extend(items.iter().map(|item| item["id"].to_string()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    let count = seen.len();
    seen.sort();
    seen.dedup();
    ensure!(count == 5 && seen.len() == 5, "{count} items, {} different", seen.len());
    Ok(())
}

async fn feed(sut: &Sut, token: &str, last: Option<&str>) -> Result<Events> {
    let mut request = sut.as_user(token, Method::GET, "/api/changes").header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    Events::from(request.send().await?).await
}

/// The next event that is about a note whose id is one of `ids`.
async fn next_of(events: &mut Events, ids: &[&str]) -> Result<(String, String)> {
    within("a change of one's own note", Duration::from_secs(10), async {
        loop {
            let event = events.expect().await?;
            if let Some(id) = ids.iter().find(|id| event.data.contains(**id)) {
                return Ok(((*id).to_owned(), event.id.context("a change without an id")?));
            }
        }
    })
    .await
}

async fn feed_resumes(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token(&unique())?;
    let mut events = feed(&sut, &token, None).await?;
    let notes = [sut.create_note(&token, "a", "1").await?, sut.create_note(&token, "b", "2").await?];
    let ids = notes.each_ref().map(|note| note["id"].as_str().unwrap_or_default());
    let (first, cursor) = next_of(&mut events, &ids).await?;
    ensure!(first == ids[0], "the first change is of {first}");
    drop(events);
    let third = sut.create_note(&token, "c", "3").await?;
    let all = [ids[0], ids[1], third["id"].as_str().unwrap_or_default()];
    let mut events = feed(&sut, &token, Some(&cursor)).await?;
    for expected in &all[1..] {
        let (id, _) = next_of(&mut events, &all).await?;
        ensure!(id == *expected, "resumed with {id}, not {expected}");
    }
    Ok(())
}

async fn feed_is_private(sut: Arc<Sut>) -> Result<()> {
    let (owner, other) = (sut.token(&unique())?, sut.token(&unique())?);
    let mut events = feed(&sut, &other, None).await?;
    let secret = sut.create_note(&owner, "secret", "x").await?;
    let own = sut.create_note(&other, "own", "y").await?;
    let ids = [secret["id"].as_str().unwrap_or_default(), own["id"].as_str().unwrap_or_default()];
    // Changes come in order: had the other user's been told, it would be first.
    let (id, _) = next_of(&mut events, &ids).await?;
    ensure!(id == ids[1], "the feed told another user's note");
    Ok(())
}
