//! Sends the requests of the `.http` files, in the order of the files' names, and checks what they expect.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Target;
use super::expect::Seen;
use super::http_file::{self, Entry, Request};
use super::report::Printer;
use super::sse::{Event, Stream};
use super::timing;
use super::variables::Variables;

/// A stream of the samples ends by itself; one that does not is broken off.
const STREAM_LIMIT: Duration = Duration::from_secs(90);
const RETRY_EVERY: Duration = Duration::from_millis(50);
/// How many events of a stream are shown before the last one.
const SHOWN_EVENTS: usize = 12;

/// An error means that a file cannot be read; what fails in a request is reported.
pub(super) async fn run(target: &Target, dir: &Path, printer: &mut Printer) -> Result<()> {
    let files = list(dir)?;
    ensure!(!files.is_empty(), "there are no .http files in {}", dir.display());
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let entries = http_file::parse(&text).with_context(|| format!("{name} is not valid"))?;
        printer.group(&name);
        let given = HashMap::from([
            ("base".to_owned(), target.base.clone()),
            ("alice".to_owned(), target.tokens.alice.clone()),
            ("bob".to_owned(), target.tokens.bob.clone()),
        ]);
        let mut variables = Variables::new(given);
        for entry in entries {
            match entry {
                Entry::Variable(name, value) => variables.set(&name, &value),
                Entry::Request(request) => perform(target, &request, &mut variables, printer).await,
            }
        }
    }
    Ok(())
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "http"));
    files.sort();
    Ok(files)
}

/// A request whose placeholders are filled in.
struct Filled {
    url: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

fn fill(request: &Request, variables: &Variables) -> Result<Filled> {
    let header = |(name, value): &(String, String)| Ok((name.clone(), variables.fill(value)?));
    Ok(Filled {
        url: variables.fill(&request.url)?.replace(' ', "%20"),
        headers: request.headers.iter().map(header).collect::<Result<_>>()?,
        body: request.body.as_deref().map(|body| variables.fill(body)).transpose()?,
    })
}

/// What one attempt came to.
struct Attempt {
    seen: Seen,
    events: Vec<Event>,
    total: Duration,
    held: Vec<String>,
    failures: Vec<String>,
}

async fn perform(target: &Target, request: &Request, variables: &mut Variables, printer: &mut Printer) {
    printer.step(&request.title);
    let filled = match fill(request, variables) {
        Ok(filled) => filled,
        Err(error) => {
            let failures = vec![format!("{error:#}")];
            return printer.end(&request.title, "not sent", Duration::ZERO, vec![], &[], failures);
        }
    };
    printer.sent(&format!("{} {}", request.method, filled.url));
    for (name, value) in filled.headers.iter().filter(|(name, _)| name != "content-type") {
        printer.detail(&format!("{name}: {value}"));
    }
    if let Some(body) = &filled.body {
        let one_line: Vec<_> = body.lines().map(str::trim).collect();
        printer.detail(&one_line.join(" "));
    }
    let began = Instant::now();
    let mut attempts = 1;
    let attempt = loop {
        let attempt = attempt(target, request, &filled, variables).await;
        let failed = attempt.as_ref().map_or(true, |attempt| !attempt.failures.is_empty());
        let in_time = request.eventually.is_some_and(|limit| began.elapsed() + RETRY_EVERY < limit);
        if !(failed && in_time) {
            break attempt;
        }
        attempts += 1;
        tokio::time::sleep(RETRY_EVERY).await;
    };
    if attempts > 1 {
        printer.detail(&format!("{attempts} tries in {}", crate::term::elapsed(began.elapsed())));
    }
    match attempt {
        Ok(attempt) => conclude(request, attempt, variables, printer),
        Err(error) => {
            printer.end(
                &request.title,
                "no answer",
                began.elapsed(),
                vec![],
                &[],
                vec![format!("{error:#}")],
            );
        }
    }
}

fn conclude(request: &Request, attempt: Attempt, variables: &mut Variables, printer: &mut Printer) {
    let Attempt { seen, events, total, held, failures } = attempt;
    let reason = reqwest::StatusCode::from_u16(seen.status).ok().and_then(|status| status.canonical_reason());
    printer.received(&format!("{} {}", seen.status, reason.unwrap_or_default()));
    for name in ["location", "etag", "allow", "www-authenticate", "retry-after"] {
        if let Some(value) = seen.header(name) {
            printer.detail(&format!("{name}: {value}"));
        }
    }
    if events.is_empty() && !seen.text.is_empty() {
        printer.body(&seen.text);
    }
    show_events(&events, printer);
    let hops = timing::parse(seen.header("server-timing").unwrap_or_default());
    printer.end(&request.title, &seen.status.to_string(), total, hops, &held, failures);
    if let Some(name) = &request.name {
        variables.remember(name, Rc::new(seen));
    }
}

pub(super) fn show_events(events: &[Event], printer: &Printer) {
    let line = |event: &Event| match event.kind.as_str() {
        "message" => event.data.clone(),
        kind => format!("{kind} {}", event.data),
    };
    let hidden = events.len().saturating_sub(SHOWN_EVENTS + 2);
    for (index, event) in events.iter().enumerate() {
        if hidden > 0 && index == SHOWN_EVENTS {
            printer.detail(&format!("          … {hidden} more events"));
        }
        if index < SHOWN_EVENTS || index >= SHOWN_EVENTS + hidden {
            printer.event(event.at, &line(event));
        }
    }
}

async fn attempt(
    target: &Target,
    request: &Request,
    filled: &Filled,
    variables: &Variables,
) -> Result<Attempt> {
    let started = Instant::now();
    let method = request.method.parse().context("the method is not valid")?;
    let mut builder = target.client.request(method, &filled.url);
    for (name, value) in &filled.headers {
        builder = builder.header(name, value);
    }
    if let Some(body) = &filled.body {
        builder = builder.body(body.clone());
    }
    let response = builder.send().await.context("the request failed")?;
    let (seen, events) = tokio::time::timeout(STREAM_LIMIT, read(response, started))
        .await
        .with_context(|| format!("the response did not end within {} s", STREAM_LIMIT.as_secs()))??;
    let total = started.elapsed();
    let (mut held, mut failures) = (Vec::new(), Vec::new());
    for expectation in &request.expectations {
        match expectation.check(&seen, |value| variables.fill(value)) {
            Ok(text) => held.push(text),
            Err(text) => failures.push(text),
        }
    }
    Ok(Attempt { seen, events, total, held, failures })
}

async fn read(response: reqwest::Response, started: Instant) -> Result<(Seen, Vec<Event>)> {
    let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let mut seen = Seen {
        status: response.status().as_u16(),
        headers: response.headers().iter().map(header).collect(),
        ..Seen::default()
    };
    if !seen.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
        seen.text = response.text().await.context("the response broke off")?;
        seen.json = serde_json::from_str(&seen.text).ok();
        return Ok((seen, vec![]));
    }
    let mut stream = Stream::new(response, started);
    let mut events = Vec::new();
    while let Some(event) = stream.next().await? {
        events.push(event);
    }
    seen.text = events.iter().map(|event| event.data.as_str()).collect::<Vec<_>>().join("\n");
    seen.last_event = events.last().map(|event| event.kind.clone());
    // `end` closes the stream; its empty data is no message.
    let messages = events.iter().filter(|event| event.kind != "end");
    seen.events = messages.filter_map(|event| serde_json::from_str(&event.data).ok()).collect();
    Ok((seen, events))
}
