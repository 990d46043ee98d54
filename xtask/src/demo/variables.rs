//! The placeholders of the samples: `{{name}}`, and `{{request.response.body.$.path}}` or
//! `{{request.response.headers.NAME}}` of an earlier response.

use std::collections::HashMap;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};

use super::expect::Seen;
use super::json_path;

/// What placeholders stand for, at one point of a file.
#[derive(Default)]
pub(super) struct Variables {
    /// Given from outside: they win over what a file says.
    given: HashMap<String, String>,
    file: HashMap<String, String>,
    responses: HashMap<String, Rc<Seen>>,
}

impl Variables {
    /// `given`: base URL and tokens.
    pub(super) fn new(given: HashMap<String, String>) -> Self {
        Self { given, ..Self::default() }
    }

    /// A variable of the file.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.file.insert(name.into(), value.into());
    }

    /// The response of a named request.
    pub(super) fn remember(&mut self, request: &str, seen: Rc<Seen>) {
        self.responses.insert(request.into(), seen);
    }

    /// `text` with every placeholder filled in.
    pub(super) fn fill(&self, text: &str) -> Result<String> {
        self.fill_within(text, 8)
    }

    fn fill_within(&self, text: &str, depth: u8) -> Result<String> {
        ensure!(depth > 0, "variables refer to each other in a circle");
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (key, after) =
                after.split_once("}}").with_context(|| format!("{{{{ without }}}} in {text:?}"))?;
            out.push_str(before);
            out.push_str(&self.value(key.trim(), depth)?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn value(&self, key: &str, depth: u8) -> Result<String> {
        if let Some(value) = self.given.get(key) {
            return Ok(value.clone());
        }
        if let Some(value) = self.file.get(key) {
            return self.fill_within(value, depth - 1);
        }
        let Some((request, what)) = key.split_once(".response.") else {
            bail!("the variable {key:?} is not set");
        };
        let seen = self
            .responses
            .get(request)
            .with_context(|| format!("no request named {request:?} was sent yet"))?;
        let found = match what.split_once('.') {
            Some(("headers", name)) => seen.header(name).map(str::to_owned),
            Some(("body", path)) => seen.json.as_ref().and_then(|json| json_path::get(json, path)).map(plain),
            _ => bail!("{key:?} must go on with .body.$.path or .headers.name"),
        };
        found.with_context(|| format!("the response of {request:?} has no {what}"))
    }
}

/// A text without its quotes; everything else as JSON.
fn plain(value: serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables() -> Variables {
        let mut variables = Variables::new([("base".to_owned(), "http://x".to_owned())].into());
        variables.set("base", "http://ignored");
        variables.set("note", "{{base}}/{{create.response.body.$.id}}");
        let seen = Seen {
            json: Some(json!({ "id": "n1", "revision": 2 })),
            headers: vec![("etag".into(), "\"2\"".into())],
            ..Seen::default()
        };
        variables.remember("create", Rc::new(seen));
        variables
    }

    #[test]
    fn placeholders_are_filled_and_what_is_given_wins() {
        let fill = |text| variables().fill(text).unwrap();
        assert_eq!(fill("GET {{note}}?r={{create.response.body.$.revision}}"), "GET http://x/n1?r=2");
        assert_eq!(fill("{{ create.response.headers.ETag }}"), "\"2\"");
        assert_eq!(fill("{\"a\": {}}"), "{\"a\": {}}");
    }

    #[test]
    fn what_cannot_be_filled_is_named() {
        let error = |text| format!("{:#}", variables().fill(text).unwrap_err());
        assert!(error("{{nobody}}").contains("\"nobody\" is not set"));
        assert!(error("{{other.response.body.$.id}}").contains("no request named \"other\""));
        assert!(error("{{create.response.body.$.x}}").contains("has no body.$.x"));
        assert!(error("{{base").contains("without"));
    }

    #[test]
    fn a_circle_is_an_error() {
        let mut variables = Variables::default();
        variables.set("a", "{{b}}");
        variables.set("b", "{{a}}");
        assert!(variables.fill("{{a}}").unwrap_err().to_string().contains("circle"));
    }
}
