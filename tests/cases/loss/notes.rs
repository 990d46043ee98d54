//! A writer of notes that remembers what was acknowledged, and the check that it is so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use blackbox::{
    Sut,
    random::{Random, unique},
    wait::every,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

/// What a note is known to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// A text with this word.
    Holds(String),
    Deleted,
}

/// A note as its writer knows it.
#[derive(Debug)]
pub(crate) struct Note {
    token: String,
    id: String,
    etag: String,
    /// What the server acknowledged last.
    acknowledged: State,
    /// What it was asked for and never answered: may be so or not.
    perhaps: Option<State>,
    /// The words of former revisions.
    former: Vec<String>,
}

impl Note {
    pub(crate) fn is_deleted(&self) -> bool {
        self.acknowledged == State::Deleted
    }

    fn is_usable(&self) -> bool {
        !self.is_deleted() && self.perhaps.is_none()
    }
}

/// Few enough that updates and deletions are as frequent as creations.
const LIVE: usize = 40;

/// Creates, changes and deletes notes until told to stop.
pub(crate) async fn write(sut: Arc<Sut>, mut random: Random, stop: Arc<AtomicBool>) -> Result<Vec<Note>> {
    let token = sut.token(&unique())?;
    let mut notes: Vec<Note> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let usable: Vec<usize> = (0..notes.len()).filter(|index| notes[*index].is_usable()).collect();
        let action = if usable.len() >= LIVE { random.within(4..10) } else { random.within(0..10) };
        let answered = if action < 4 || usable.is_empty() {
            let created = create(&sut, &token, random.word()).await?;
            let answered = created.is_some();
            notes.extend(created);
            answered
        } else {
            let note = &mut notes[usable[random.within(0..usable.len() as u64) as usize]];
            let wish = if action < 8 { State::Holds(random.word()) } else { State::Deleted };
            change(&sut, note, wish).await?
        };
        // The pace of the writes; slower while the service is away.
        tokio::time::sleep(Duration::from_millis(if answered { 20 } else { 60 })).await;
    }
    Ok(notes)
}

async fn create(sut: &Sut, token: &str, word: String) -> Result<Option<Note>> {
    let body = json!({"title": "written under fire", "text": format!("It holds {word}.")});
    let request = sut.as_user(token, Method::POST, "/api/notes").json(&body);
    let Some(response) = answered(request.send().await, StatusCode::CREATED)? else { return Ok(None) };
    let etag = etag(&response)?;
    // The acknowledgement is the status; a body that breaks off leaves no id to ask for.
    let Ok(note) = response.json::<Value>().await else { return Ok(None) };
    let id = note["id"].as_str().context("a note without an id")?.to_owned();
    let acknowledged = State::Holds(word);
    Ok(Some(Note { token: token.into(), id, etag, acknowledged, perhaps: None, former: Vec::new() }))
}

/// Whether the change was acknowledged.
async fn change(sut: &Sut, note: &mut Note, wish: State) -> Result<bool> {
    let path = format!("/api/notes/{}", note.id);
    let (request, success) = match &wish {
        State::Holds(word) => {
            let body = json!({"title": "changed under fire", "text": format!("It holds {word}.")});
            (sut.as_user(&note.token, Method::PUT, &path).json(&body), StatusCode::OK)
        }
        State::Deleted => (sut.as_user(&note.token, Method::DELETE, &path), StatusCode::NO_CONTENT),
    };
    let sent = request.header("if-match", &note.etag).send().await;
    let Some(response) = answered(sent, success)? else {
        note.perhaps = Some(wish);
        return Ok(false);
    };
    if success == StatusCode::OK {
        note.etag = etag(&response)?;
    }
    if let State::Holds(word) = std::mem::replace(&mut note.acknowledged, wish) {
        note.former.push(word);
    }
    Ok(true)
}

/// The response if it acknowledges; `None` if the fault came between; an error if it is neither.
fn answered(sent: reqwest::Result<Response>, success: StatusCode) -> Result<Option<Response>> {
    match sent {
        Ok(response) if response.status() == success => Ok(Some(response)),
        Ok(response) if response.status().is_server_error() => Ok(None),
        Ok(response) => bail!("{} answered {} to a good request", response.url(), response.status()),
        Err(_) => Ok(None),
    }
}

fn etag(response: &Response) -> Result<String> {
    Ok(response.headers().get("etag").context("no ETag")?.to_str()?.to_owned())
}

/// Reads every note back, by id and by search.
pub(crate) async fn verify(sut: &Sut, notes: Vec<Note>) -> Result<()> {
    let checks = stream::iter(notes).map(|note| async move {
        let actual = actual(sut, &note).await?;
        every(Duration::from_millis(200), "the index agrees", Duration::from_secs(30), || {
            indexed(sut, &note, &actual)
        })
        .await
        .with_context(|| format!("note {}", note.id))
    });
    checks.buffer_unordered(8).try_collect().await
}

/// What the note holds now, which must be what was acknowledged, or perhaps what was asked for later.
async fn actual(sut: &Sut, note: &Note) -> Result<State> {
    let response = sut.as_user(&note.token, Method::GET, &format!("/api/notes/{}", note.id)).send().await?;
    let actual = match response.status() {
        StatusCode::NOT_FOUND => State::Deleted,
        StatusCode::OK => {
            let body: Value = response.json().await?;
            let text = body["text"].as_str().unwrap_or_default();
            State::Holds(text.trim_start_matches("It holds ").trim_end_matches('.').to_owned())
        }
        status => bail!("note {}: status {status}", note.id),
    };
    ensure!(
        actual == note.acknowledged || Some(&actual) == note.perhaps.as_ref(),
        "note {} is {actual:?}, but {:?} was acknowledged (and perhaps {:?})",
        note.id,
        note.acknowledged,
        note.perhaps
    );
    Ok(actual)
}

async fn indexed(sut: &Sut, note: &Note, actual: &State) -> Result<()> {
    let document = format!("notes/{}", note.id);
    let mut stale = note.former.clone();
    for state in [Some(&note.acknowledged), note.perhaps.as_ref()].into_iter().flatten() {
        match state {
            State::Holds(word) if state != actual => stale.push(word.clone()),
            _ => {}
        }
    }
    if let State::Holds(word) = actual {
        let found = sut.search_words(&note.token, word).await?;
        ensure!(found == [document], "search for its word {word} finds {found:?}");
    }
    // Only the last former words: those before went the same way.
    for word in stale.iter().rev().take(2) {
        let found = sut.search_words(&note.token, word).await?;
        ensure!(found.is_empty(), "search for its former word {word} finds {found:?}; it is {actual:?}");
    }
    Ok(())
}
