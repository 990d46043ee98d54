//! Which form of an answer the client wants, by `accept` (RFC 9110, section 12.5.1).

use super::form::Form;
use crate::edge::{Code, Problem};
use http::{HeaderMap, HeaderValue, header};

/// The forms of a stream, the preferred one first, by all names they go by.
const STREAMS: [(&str, Form); 6] = [
    ("text/event-stream", Form::Events),
    ("application/x-ndjson", Form::Lines("application/x-ndjson")),
    ("application/ndjson", Form::Lines("application/ndjson")),
    ("application/jsonl", Form::Lines("application/jsonl")),
    ("application/x-jsonlines", Form::Lines("application/x-jsonlines")),
    ("application/json", Form::Array),
];

/// The form of a stream: what the client likes best, then what it names most exactly, then events.
pub(super) fn stream(headers: &HeaderMap) -> Result<Form, Problem> {
    let ranges = ranges(headers);
    let mut best: Option<(Rank, Form)> = None;
    for (name, form) in STREAMS {
        if let Some(rank) = rank(&ranges, name)
            && best.as_ref().is_none_or(|(found, _)| rank > *found)
        {
            best = Some((rank, form));
        }
    }
    best.map(|(_, form)| form).ok_or_else(|| {
        refuse("This method streams: text/event-stream, application/x-ndjson or application/json.")
    })
}

/// A single document is JSON.
pub(super) fn json(headers: &HeaderMap) -> Result<(), Problem> {
    // Nearly all that is ever said.
    match headers.get(header::ACCEPT).map(HeaderValue::as_bytes) {
        None | Some(b"*/*" | b"application/json") => return Ok(()),
        Some(_) => {}
    }
    match rank(&ranges(headers), "application/json") {
        Some(_) => Ok(()),
        None => Err(refuse("This method answers with one document: application/json.")),
    }
}

fn refuse(what: &'static str) -> Problem {
    Problem::new(Code::NotAcceptable, what)
}

/// Quality in thousandths, then how exactly the range names the type.
type Rank = (u16, u8);

/// One range with its quality.
type Range = (String, u16);

/// Nothing said is everything accepted.
fn ranges(headers: &HeaderMap) -> Vec<Range> {
    let values = headers.get_all(header::ACCEPT).iter();
    let parts = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
    let ranges: Vec<_> = parts.map(str::trim).filter(|part| !part.is_empty()).map(range).collect();
    if ranges.is_empty() { vec![("*/*".to_owned(), 1000)] } else { ranges }
}

fn range(text: &str) -> Range {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let quality = quality.map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
    let quality = (quality * 1000.0).round() as u16;
    (name, quality)
}

/// By the most exact range that covers the type; none where that refuses it.
fn rank(ranges: &[Range], name: &str) -> Option<Rank> {
    let kind = name.split('/').next().unwrap_or_default();
    let exactness = |range: &str| match range.split_once('/') {
        _ if range == name => Some(2),
        Some((of, "*")) if of == kind => Some(1),
        Some(("*", "*")) => Some(0),
        _ => None,
    };
    let covering = ranges.iter().filter_map(|(range, quality)| Some((exactness(range)?, *quality)));
    let (exactness, quality) = covering.max()?;
    (quality > 0).then_some((quality, exactness))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(header::ACCEPT, HeaderValue::try_from(accept).unwrap());
        }
        headers
    }

    #[test]
    fn the_form_is_what_the_client_likes_best() {
        for (accept, expected) in [
            ("", "text/event-stream"),
            ("*/*", "text/event-stream"),
            ("text/*", "text/event-stream"),
            ("application/x-ndjson", "application/x-ndjson"),
            ("Application/JSONL", "application/jsonl"),
            ("application/json", "application/json"),
            ("application/json, text/plain, */*", "application/json"),
            ("application/json;q=0.5, */*;q=0.8", "text/event-stream"),
            ("text/event-stream;q=0.1, application/x-ndjson; q=0.9", "application/x-ndjson"),
            ("text/event-stream;q=0, */*", "application/x-ndjson"),
            ("application/*", "application/x-ndjson"),
            ("text/html, application/json;q=0.001", "application/json"),
        ] {
            assert_eq!(stream(&headers(accept)).unwrap().content_type(), expected, "{accept}");
        }
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_what_can() {
        for accept in ["text/html", "application/json;q=0", "image/*", "*/*;q=0", "application/json;q=x"] {
            let problem = stream(&headers(accept)).unwrap_err();
            assert_eq!(problem.code(), Code::NotAcceptable, "{accept}");
        }
        assert!(
            json(&headers("text/event-stream")).is_err() && json(&headers("text/html, */*;q=0.1")).is_ok()
        );
    }
}
