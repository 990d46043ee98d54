//! Path templates and the search for them: lines of templates, and a last line that is the path of a request.

use std::{collections::BTreeMap, sync::LazyLock};

use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use transcode::{Contract, Routed};

/// More only make a search longer.
const MOST_TEMPLATES: usize = 4;

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| {
    let source = "syntax = \"proto3\"; package t; service S { rpc M(In) returns (In); } \
                  message In { string a = 1; string b = 2; In c = 3; string d = 4; }";
    Contract::from_sources(&BTreeMap::from([("t.proto", source)])).unwrap()
});

/// The route that is found is one that matches by the rules read plainly, captures what they say, and none is missed.
pub fn routes(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut templates: Vec<_> = text.lines().collect();
    let Some(path) = templates.pop() else { return };
    templates.truncate(MOST_TEMPLATES);
    let Ok(contract) = CONTRACT.with_get_routes(&CONTRACT.methods()[0], &templates) else { return };
    let patterns: Vec<_> = templates.iter().map(|text| Pattern::new(text)).collect();
    let expected = matching(&patterns, path);
    match contract.route(&Method::GET, path) {
        Routed::NotFound => assert!(expected.is_empty(), "missed: {expected:?}"),
        Routed::MethodNotAllowed { .. } => panic!("all routes are GET"),
        Routed::Matched(call) => {
            let found = expected.iter().find(|(pattern, _)| pattern.text == call.template());
            let (pattern, captures) = found.expect("what was found matches");
            let message = call.encode_request(None, b"").ok();
            let values: Option<Vec<_>> = pattern.values(captures);
            assert_eq!(message.is_some(), values.is_some(), "{captures:?}");
            let (Some(message), Some(values)) = (message, values) else { return };
            let json: Value = serde_json::from_slice(&call.decode_response(&message).unwrap()).unwrap();
            for (name, value) in values {
                let place = json.pointer(&format!("/{}", name.replace('.', "/")));
                assert_eq!(place.map_or("", |found| found.as_str().unwrap()), value, "{name}");
            }
        }
    }
    let other = contract.route(&Method::POST, path);
    assert_eq!(matches!(other, Routed::NotFound), expected.is_empty());
}

/// The templates that match: those with the path's verb, or else those without one.
fn matching<'a>(patterns: &'a [Pattern<'a>], path: &'a str) -> Vec<(&'a Pattern<'a>, Vec<Vec<&'a str>>)> {
    let Some(path) = path.strip_prefix('/') else { return vec![] };
    let whole: Vec<_> = path.split('/').collect();
    let fits = |segments: &[&'a str], verb: Option<String>| -> Vec<_> {
        let same = patterns.iter().filter(|pattern| pattern.verb == verb);
        same.filter_map(|pattern| Some((pattern, pattern.captures(segments)?))).collect()
    };
    let mut with_verb = vec![];
    if let Some((head, verb)) = whole.last().and_then(|last| last.rsplit_once(':')) {
        let segments: Vec<_> = whole[..whole.len() - 1].iter().copied().chain([head]).collect();
        with_verb = fits(&segments, Some(lossy(verb)));
    }
    if with_verb.is_empty() { fits(&whole, None) } else { with_verb }
}

fn lossy(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// A template that the contract has taken, so that only its shape must be read here.
#[derive(Debug)]
struct Pattern<'a> {
    text: &'a str,
    verb: Option<String>,
    segments: Vec<&'a str>,
    /// Name, first segment, and the one after the last.
    variables: Vec<(&'a str, usize, usize)>,
}

impl<'a> Pattern<'a> {
    fn new(text: &'a str) -> Self {
        let (path, verb) = match text.rsplit_once(':') {
            Some((path, verb)) => (path, Some(lossy(verb))),
            None => (text, None),
        };
        let mut pattern = Self { text, verb, segments: vec![], variables: vec![] };
        let mut rest = path;
        while let Some(next) = rest.strip_prefix('/') {
            let start = pattern.segments.len();
            if let Some((inside, after)) = next.strip_prefix('{').and_then(|next| next.split_once('}')) {
                let (name, segments) = inside.split_once('=').unwrap_or((inside, "*"));
                pattern.segments.extend(segments.split('/'));
                pattern.variables.push((name, start, pattern.segments.len()));
                rest = after;
            } else {
                let end = next.find('/').unwrap_or(next.len());
                pattern.segments.push(&next[..end]);
                rest = &next[end..];
            }
        }
        pattern
    }

    /// What each variable covers.
    fn captures<'p>(&self, path: &[&'p str]) -> Option<Vec<Vec<&'p str>>> {
        let rest = self.segments.iter().position(|segment| *segment == "**");
        let fixed = self.segments.len() - usize::from(rest.is_some());
        let covered = path.len().checked_sub(fixed)?;
        if rest.is_none() && covered > 0 {
            return None;
        }
        // The piece of the path that each segment of the template stands for.
        let mut pieces = vec![];
        let mut at = 0;
        for segment in &self.segments {
            let length = if *segment == "**" { covered } else { 1 };
            let piece = &path[at..at + length];
            let fits = match *segment {
                "**" => true,
                "*" => !piece[0].is_empty(),
                literal => lossy(piece[0]) == lossy(literal),
            };
            if !fits {
                return None;
            }
            pieces.push(piece);
            at += length;
        }
        Some(self.variables.iter().map(|&(_, start, end)| pieces[start..end].concat()).collect())
    }

    /// The variables' values, decoded; none where one is no text. Of several segments `%2F` stays as it is.
    fn values(&self, captures: &[Vec<&str>]) -> Option<Vec<(&'a str, String)>> {
        let variables = self.variables.iter().zip(captures);
        let value = |(&(name, start, end), covered): (&(&'a str, usize, usize), &Vec<&str>)| {
            let raw = covered.join("/");
            let multi = end - start > 1 || self.segments[start] == "**";
            let kept = if multi { raw.replace("%2F", "%252F").replace("%2f", "%252f") } else { raw };
            let well_formed = kept
                .split('%')
                .skip(1)
                .all(|part| part.len() >= 2 && part.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit));
            let text = well_formed.then(|| percent_decode_str(&kept).decode_utf8().ok())??;
            Some((name, text.into_owned()))
        };
        variables.map(value).collect()
    }
}
