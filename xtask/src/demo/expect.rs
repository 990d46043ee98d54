//! The expectations of the samples: `# @expect SUBJECT [OPERATOR VALUE]`.
//!
//! Subjects: `status`, `header NAME`, `body` (the text), `body.$PATH` (JSON), `events.$PATH` (the data of a
//! stream's events, as an array), `last_event` (the type of the last event). Operators: `==` `!=` `<` `<=` `>`
//! `>=` `contains` `excludes` (of a text or an array) and `absent`; without one, it must exist. Values are JSON.

use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::json_path;

/// One expectation; its value may hold placeholders.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expectation {
    subject: Subject,
    operator: Operator,
    /// JSON, perhaps with placeholders.
    value: String,
    /// As it was written.
    text: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Subject {
    Status,
    Header(String),
    Text,
    Body(String),
    Events(String),
    LastEvent,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    Exists,
    Absent,
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Contains,
    Excludes,
}

/// What an expectation looks at.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The status.
    pub(super) status: u16,
    /// The headers, names in lower case.
    pub(super) headers: Vec<(String, String)>,
    /// The body's text; of a stream, all of it.
    pub(super) text: String,
    /// The body as JSON, where it is.
    pub(super) json: Option<Value>,
    /// The data of a stream's events.
    pub(super) events: Vec<Value>,
    /// The type of a stream's last event.
    pub(super) last_event: Option<String>,
}

impl Seen {
    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl FromStr for Expectation {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (subject, rest) = subject(text)?;
        let (word, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let operator = match word {
            "" => Operator::Exists,
            "absent" => Operator::Absent,
            "==" => Operator::Equal,
            "!=" => Operator::NotEqual,
            "<" => Operator::Less,
            "<=" => Operator::AtMost,
            ">" => Operator::Greater,
            ">=" => Operator::AtLeast,
            "contains" => Operator::Contains,
            "excludes" => Operator::Excludes,
            // `status 201` reads better than `status == 201`.
            number if subject == Subject::Status && number.parse::<u16>().is_ok() => {
                return Ok(Self {
                    subject,
                    operator: Operator::Equal,
                    value: number.into(),
                    text: text.into(),
                });
            }
            other => bail!(
                "{other:?} is not an operator: == != < <= > >= contains excludes absent, or none for \"it exists\""
            ),
        };
        let value = value.trim();
        let wants_value = !matches!(operator, Operator::Exists | Operator::Absent);
        ensure!(wants_value != value.is_empty(), "{word:?} and its value do not fit: {text:?}");
        if wants_value && !value.contains("{{") {
            serde_json::from_str::<Value>(value)
                .with_context(|| format!("{value} is not JSON; texts need quotes"))?;
        }
        Ok(Self { subject, operator, value: value.into(), text: text.into() })
    }
}

fn subject(text: &str) -> Result<(Subject, &str)> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let path = |path: &str| {
        ensure!(json_path::is_valid(path), "{path:?} is not a path such as $.items[0].id");
        Ok(path.to_owned())
    };
    Ok(match word.split_once('.') {
        Some(("body", p)) => (Subject::Body(path(p)?), rest),
        Some(("events", p)) => (Subject::Events(path(p)?), rest),
        None if word == "status" => (Subject::Status, rest),
        None if word == "body" => (Subject::Text, rest),
        None if word == "last_event" => (Subject::LastEvent, rest),
        None if word == "header" => {
            let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            ensure!(!name.is_empty(), "header needs a name");
            (Subject::Header(name.to_ascii_lowercase()), rest.trim())
        }
        _ => bail!("{word:?} is not known: status, header NAME, body, body.$PATH, events.$PATH, last_event"),
    })
}

impl Expectation {
    /// `Ok` with the expectation as written if it holds, otherwise `Err` with what was seen instead.
    pub(super) fn check(&self, seen: &Seen, fill: impl Fn(&str) -> Result<String>) -> Result<String, String> {
        let wanted = fill(&self.value).map_err(|error| format!("{}: {error:#}", self.text))?;
        let found = self.found(seen);
        let holds = match self.operator {
            Operator::Exists => found.is_some(),
            Operator::Absent => found.is_none(),
            operator => {
                let wanted: Value = serde_json::from_str(&wanted)
                    .map_err(|_| format!("{}: {wanted} is not JSON; texts need quotes", self.text))?;
                found.as_ref().is_some_and(|found| compare(operator, found, &wanted))
            }
        };
        let text =
            if wanted == self.value { self.text.clone() } else { self.text.replace(&self.value, &wanted) };
        if holds {
            return Ok(text);
        }
        let shown =
            found.map_or_else(|| "nothing".to_owned(), |found| crate::term::shorten(&found.to_string(), 300));
        Err(format!("{text}, but found {shown}"))
    }

    fn found(&self, seen: &Seen) -> Option<Value> {
        match &self.subject {
            Subject::Status => Some(seen.status.into()),
            Subject::Header(name) => seen.header(name).map(Value::from),
            Subject::Text => Some(seen.text.as_str().into()),
            Subject::Body(path) => json_path::get(seen.json.as_ref()?, path),
            Subject::Events(path) => json_path::get(&Value::Array(seen.events.clone()), path),
            Subject::LastEvent => seen.last_event.as_deref().map(Value::from),
        }
    }
}

fn compare(operator: Operator, found: &Value, wanted: &Value) -> bool {
    // 1 and 1.0 are the same number.
    let numbers = found.as_f64().zip(wanted.as_f64());
    let equal = |a: &Value, b: &Value| a == b || a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a == b);
    let contains = || match (found, wanted) {
        (Value::Array(items), wanted) => items.iter().any(|item| equal(item, wanted)),
        (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
        _ => false,
    };
    match operator {
        Operator::Exists | Operator::Absent => false,
        Operator::Equal => equal(found, wanted),
        Operator::NotEqual => !equal(found, wanted),
        Operator::Less => numbers.is_some_and(|(a, b)| a < b),
        Operator::AtMost => numbers.is_some_and(|(a, b)| a <= b),
        Operator::Greater => numbers.is_some_and(|(a, b)| a > b),
        Operator::AtLeast => numbers.is_some_and(|(a, b)| a >= b),
        Operator::Contains => contains(),
        // What is not a text or an array excludes nothing: the expectation is then at the wrong place.
        Operator::Excludes => (found.is_array() || found.is_string()) && !contains(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen() -> Seen {
        Seen {
            status: 201,
            headers: vec![("etag".into(), "\"1\"".into())],
            text: "the text".into(),
            json: Some(json!({ "id": "n1", "revision": 1, "ids": ["a", "b"], "score": 0.5 })),
            events: vec![json!({ "n": 1 }), json!({ "n": 2 })],
            last_event: Some("end".into()),
        }
    }

    fn check(text: &str) -> Result<String, String> {
        let fill = |value: &str| Ok(value.replace("{{id}}", "n1"));
        text.parse::<Expectation>().unwrap().check(&seen(), fill)
    }

    #[test]
    fn what_holds_holds() {
        for text in [
            "status 201",
            "status < 300",
            "header ETag",
            "header etag == \"\\\"1\\\"\"",
            "header location absent",
            "body contains \"text\"",
            "body.$.id == \"{{id}}\"",
            "body.$.revision == 1.0",
            "body.$.score >= 0.5",
            "body.$.ids contains \"b\"",
            "body.$.ids excludes \"c\"",
            "body.$.nothing absent",
            "events.$[*].n contains 2",
            "events.$[-1].n == 2",
            "last_event == \"end\"",
        ] {
            assert!(check(text).is_ok(), "{text}: {:?}", check(text));
        }
    }

    #[test]
    fn what_does_not_hold_says_what_was_found() {
        assert_eq!(check("status 200").unwrap_err(), "status 200, but found 201");
        assert_eq!(check("body.$.id == \"x\"").unwrap_err(), "body.$.id == \"x\", but found \"n1\"");
        assert_eq!(check("body.$.name").unwrap_err(), "body.$.name, but found nothing");
        for text in
            ["body.$.id absent", "body.$.ids excludes \"a\"", "body.$.revision excludes 7", "body.$.x != 1"]
        {
            assert!(check(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mistake_in_an_expectation_is_an_error() {
        for text in [
            "",
            "statsu 200",
            "body.$.a = 1",
            "body.$.a == x",
            "body.$..a",
            "body.$.a ==",
            "header",
            "body absent 1",
        ] {
            assert!(text.parse::<Expectation>().is_err(), "{text}");
        }
    }
}
