//! Collaborative documents with the real Hocuspocus provider: editors converge, documents are guarded, and
//! related passages come to every editor, never one that an editor may not read.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use blackbox::{Sut, random::unique, runner::Group, sut::expect_json, wait::eventually};
use reqwest::Method;
use serde_json::{Value, json};

/// The shared text of a document.
pub(crate) const FIELD: &str = "text";

pub(crate) fn add(group: Group) -> Group {
    group
        .test("two editors see each other's text, and a third finds it later", converge)
        .test("a note's document is refused to who may not read the note", guarded)
        .test("related passages reach both editors, and none that one may not read", related)
}

fn id(note: &Value) -> Result<&str> {
    note["id"].as_str().context("a note without an id")
}

/// A note of `owner` that `reader` may read.
async fn shared_note(sut: &Sut, owner: &str, reader: &str, text: &str) -> Result<Value> {
    let note = sut.create_note(owner, "shared", text).await?;
    let share = sut.as_user(owner, Method::PUT, &format!("/api/notes/{}/readers", id(&note)?));
    share.json(&json!({"readers": [reader]})).send().await?.error_for_status()?;
    Ok(note)
}

async fn converge(sut: Arc<Sut>) -> Result<()> {
    let (owner, reader) = (unique(), unique());
    let (owner_token, reader_token) = (sut.token(&owner)?, sut.token(&reader)?);
    let note = shared_note(&sut, &owner_token, &reader, "x").await?;
    let document = format!("note:{}", id(&note)?);
    let mut editors = sut.editors()?;
    editors.open("a", &sut.collab_url(&owner_token), &document).await?;
    editors.open("b", &sut.collab_url(&reader_token), &document).await?;
    editors.write("a", FIELD, "from a; ", Duration::from_secs(5)).await?;
    editors.write("b", FIELD, "from b; ", Duration::from_secs(5)).await?;
    for editor in ["a", "b"] {
        let until = std::time::Instant::now() + Duration::from_secs(5);
        loop {
            let text = editors.text(editor, FIELD).await?;
            if text.contains("from a; ") && text.contains("from b; ") {
                break;
            }
            ensure!(std::time::Instant::now() < until, "editor {editor} sees {text:?}");
        }
    }
    editors.close("a").await?;
    editors.close("b").await?;
    editors.open("later", &sut.collab_url(&owner_token), &document).await?;
    let text = editors.text("later", FIELD).await?;
    ensure!(text.contains("from a; ") && text.contains("from b; "), "a later editor sees {text:?}");
    Ok(())
}

async fn guarded(sut: Arc<Sut>) -> Result<()> {
    let owner = sut.token(&unique())?;
    let note = sut.create_note(&owner, "mine", "x").await?;
    let mut editors = sut.editors()?;
    let document = format!("note:{}", id(&note)?);
    editors.open_refused("stranger", &sut.collab_url(&sut.token(&unique())?), &document).await?;
    editors.open_refused("nowhere", &sut.collab_url(&owner), "note:does-not-exist").await?;
    Ok(())
}

async fn related(sut: Arc<Sut>) -> Result<()> {
    let (owner, reader) = (unique(), unique());
    let (owner_token, reader_token) = (sut.token(&owner)?, sut.token(&reader)?);
    let subject = "Sourdough bread needs a lively starter, flour, water, salt and a hot oven.";
    let (for_both, for_owner) = (unique(), unique());
    shared_note(&sut, &owner_token, &reader, &format!("{subject} {for_both}")).await?;
    sut.create_note(&owner_token, "private", &format!("{subject} {for_owner}")).await?;
    let document = shared_note(&sut, &owner_token, &reader, "draft").await?;
    for (token, word) in [(&owner_token, &for_owner), (&reader_token, &for_both)] {
        eventually("the notes in the index", Duration::from_secs(5), || async {
            ensure!(!sut.search_words(token, word).await?.is_empty(), "{word} is not found");
            Ok(())
        })
        .await?;
    }
    let name = format!("note:{}", id(&document)?);
    let mut editors = sut.editors()?;
    editors.open("owner", &sut.collab_url(&owner_token), &name).await?;
    editors.open("reader", &sut.collab_url(&reader_token), &name).await?;
    let from = editors.mark();
    editors
        .write("owner", FIELD, "How do I bake sourdough bread with a starter?", Duration::from_secs(5))
        .await?;
    for editor in ["owner", "reader"] {
        let has_shared = |event: &Value| {
            let payload = event["payload"].as_str().unwrap_or_default();
            payload.contains("\"related\"") && payload.contains(&for_both)
        };
        editors.event_where(editor, "stateless", from, Duration::from_secs(15), has_shared).await?;
    }
    let pushed = Value::from(editors.since(from)).to_string();
    ensure!(!pushed.contains(&for_owner), "a passage that the reader may not read was pushed: {pushed}");
    // It is there for the owner alone, so it was left out and not merely missing.
    let search =
        sut.as_user(&owner_token, Method::GET, "/v1/search").query(&[("query", "bake sourdough bread")]);
    let found = expect_json(search.send().await?, 200).await?.to_string();
    ensure!(found.contains(&for_owner), "the owner's own search does not find it: {found}");
    Ok(())
}
