//! The change feed: a stream is open, a note is saved, and the stream tells of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::Target;
use super::report::Printer;
use super::sse::Stream;
use super::timing;

const TITLE: &str = "Alice's change feed tells of a note as it is saved";
const LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn change_feed(target: &Target, printer: &mut Printer) {
    printer.group("SSE");
    printer.step(TITLE);
    let began = Instant::now();
    match follow(target, printer).await {
        Ok((hops, held)) => printer.end(TITLE, "200", began.elapsed(), hops, &[held], vec![]),
        Err(error) => printer.end(TITLE, "failed", began.elapsed(), vec![], &[], vec![format!("{error:#}")]),
    }
}

async fn follow(target: &Target, printer: &Printer) -> Result<(Vec<timing::Hop>, String)> {
    let url = format!("{}/api/changes", target.base);
    printer.sent(&format!("GET {url}"));
    let started = Instant::now();
    let request =
        target.client.get(&url).bearer_auth(&target.tokens.alice).header("accept", "text/event-stream");
    let response = request.send().await.context("the feed does not answer")?;
    ensure!(response.status() == 200, "the feed answers {}: {}", response.status(), response.text().await?);
    printer.received("200 OK, and stays open");
    let header =
        response.headers().get("server-timing").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let hops = timing::parse(header);
    let mut stream = Stream::new(response, started);
    let id = create_note(target, printer, "A change", "Seen as it happens.", &[]).await?;
    let saved = started.elapsed();
    let wait = async {
        while let Some(event) = stream.next().await? {
            printer.event(event.at, &format!("{} {}", event.kind, event.data));
            if event.data.contains(&id) {
                return Ok(event.at.saturating_sub(saved));
            }
        }
        bail!("the feed ended without telling of the note {id}")
    };
    let delay =
        tokio::time::timeout(LIMIT, wait).await.context("the feed did not tell of the note within 5 s")??;
    delete_note(target, &id).await?;
    Ok((hops, format!("the event came {:.0} ms after the note was acknowledged", delay.as_secs_f64() * 1e3)))
}

/// Saves a note of Alice's and gives its id.
pub(super) async fn create_note(
    target: &Target,
    printer: &Printer,
    title: &str,
    text: &str,
    readers: &[&str],
) -> Result<String> {
    let url = format!("{}/api/notes", target.base);
    let body = json!({ "title": title, "text": text });
    printer.sent(&format!("POST {url} {body}"));
    let response = target.client.post(&url).bearer_auth(&target.tokens.alice).json(&body).send().await?;
    let status = response.status();
    let note: Value = response.json().await.context("the note's answer is not JSON")?;
    let id = note["id"].as_str().with_context(|| format!("no note was made: {status} {note}"))?.to_owned();
    if !readers.is_empty() {
        let url = format!("{url}/{id}/readers");
        let body = json!({ "readers": readers });
        printer.sent(&format!("PUT {url} {body}"));
        let response = target.client.put(&url).bearer_auth(&target.tokens.alice).json(&body).send().await?;
        ensure!(
            response.status().is_success(),
            "sharing answers {}: {}",
            response.status(),
            response.text().await?
        );
    }
    Ok(id)
}

/// Deletes a note of Alice's, so that the demo leaves nothing behind.
pub(super) async fn delete_note(target: &Target, id: &str) -> Result<()> {
    let url = format!("{}/api/notes/{id}", target.base);
    let response = target.client.delete(&url).bearer_auth(&target.tokens.alice).send().await?;
    ensure!(response.status() == 204, "deleting the note answers {}", response.status());
    Ok(())
}
