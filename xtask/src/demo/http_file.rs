//! Reads `.http` files, the format that VS Code's REST Client and JetBrains' HTTP client send with a click, with
//! expectations of ours in comments, which editors ignore.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::expect::Expectation;

/// One entry of a file, in its order.
#[derive(Debug)]
pub(super) enum Entry {
    /// `@name = value`; the value may hold placeholders, which are filled in when it is used.
    Variable(String, String),
    /// A request.
    Request(Request),
}

/// A request with what is expected of its response; texts hold placeholders.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// What follows `###`.
    pub(super) title: String,
    /// `# @name`: how later requests refer to its response.
    pub(super) name: Option<String>,
    /// GET, POST, …
    pub(super) method: String,
    /// The URL.
    pub(super) url: String,
    /// The headers, in order.
    pub(super) headers: Vec<(String, String)>,
    /// The body, if any.
    pub(super) body: Option<String>,
    /// `# @expect …`
    pub(super) expectations: Vec<Expectation>,
    /// `# @eventually 2s`: how long to try until the expectations hold.
    pub(super) eventually: Option<Duration>,
}

/// Parses a file; an error names the line.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut block = Block::default();
    for (index, line) in text.lines().enumerate() {
        if let Some(title) = line.strip_prefix("###") {
            block.finish(&mut entries)?;
            block = Block {
                request: Request { title: title.trim().into(), ..Request::default() },
                ..Block::default()
            };
        } else {
            block.line(line, &mut entries).with_context(|| format!("line {}: {line:?}", index + 1))?;
        }
    }
    block.finish(&mut entries)?;
    Ok(entries)
}

#[derive(Default)]
struct Block {
    request: Request,
    /// Lines of the body, once the empty line after the headers has come.
    body: Option<Vec<String>>,
}

impl Block {
    fn line(&mut self, line: &str, entries: &mut Vec<Entry>) -> Result<()> {
        let trimmed = line.trim();
        if let Some(body) = &mut self.body {
            body.push(line.to_owned());
            return Ok(());
        }
        if let Some(comment) = trimmed.strip_prefix("#").or_else(|| trimmed.strip_prefix("//")) {
            return self.comment(comment.trim());
        }
        if self.request.method.is_empty() {
            if let Some(variable) = trimmed.strip_prefix('@') {
                let (name, value) =
                    variable.split_once('=').context("a variable is written @name = value")?;
                entries.push(Entry::Variable(name.trim().into(), value.trim().into()));
            } else if !trimmed.is_empty() {
                self.request_line(trimmed)?;
            }
        } else if trimmed.is_empty() {
            self.body = Some(Vec::new());
        } else if line.starts_with([' ', '\t']) && trimmed.starts_with(['?', '&']) {
            self.request.url.push_str(trimmed);
        } else {
            let (name, value) = trimmed.split_once(':').context("a header is written name: value")?;
            self.request.headers.push((name.trim().to_ascii_lowercase(), value.trim().into()));
        }
        Ok(())
    }

    fn request_line(&mut self, line: &str) -> Result<()> {
        let line = line.strip_suffix("HTTP/1.1").unwrap_or(line).trim();
        let (method, url) = line.split_once(char::is_whitespace).unwrap_or(("GET", line));
        ensure!(method.chars().all(|c| c.is_ascii_uppercase()), "{method:?} is not a method");
        self.request.method = method.into();
        self.request.url = url.trim().into();
        Ok(())
    }

    /// A comment without `@` is prose, and so is an annotation of somebody else's.
    fn comment(&mut self, comment: &str) -> Result<()> {
        let (word, rest) = comment.split_once(char::is_whitespace).unwrap_or((comment, ""));
        match word {
            "@name" => self.request.name = Some(rest.trim().into()),
            "@expect" => self.request.expectations.push(rest.trim().parse()?),
            "@eventually" => self.request.eventually = Some(duration(rest.trim())?),
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, entries: &mut Vec<Entry>) -> Result<()> {
        let mut request = std::mem::take(&mut self.request);
        if request.method.is_empty() {
            ensure!(request.expectations.is_empty(), "{:?} has expectations but no request", request.title);
            return Ok(());
        }
        ensure!(!request.expectations.is_empty(), "the request {:?} has no # @expect", request.title);
        let body = self.body.take().unwrap_or_default().join("\n").trim().to_owned();
        request.body = (!body.is_empty()).then_some(body);
        entries.push(Entry::Request(request));
        Ok(())
    }
}

fn duration(text: &str) -> Result<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or("?"), 1.0),
    };
    match number.trim().parse::<f64>().map(|number| number * unit) {
        Ok(seconds) if (0.0..=600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => bail!("{text:?} is not a time such as 500ms or 2s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# What this file shows.
@base = http://localhost:8080
@note = {{create.response.body.$.id}}

### A note is made
# It belongs to Alice.
# @name create
# @expect status 201
# @expect header etag
POST {{base}}/api/notes HTTP/1.1
Content-Type: application/json
Authorization: Bearer {{alice}}

{
  \"title\": \"# no comment\"
}

### It is found
# @eventually 1500ms
# @expect status 200
GET {{base}}/v1/search
    ?query=tea
    &limit=3
";

    fn requests(text: &str) -> Vec<Request> {
        let entries = parse(text).unwrap().into_iter();
        entries.filter_map(|e| if let Entry::Request(r) = e { Some(r) } else { None }).collect()
    }

    #[test]
    fn a_request_has_its_name_headers_body_and_expectations() {
        let create = &requests(FILE)[0];
        assert_eq!((create.title.as_str(), create.name.as_deref()), ("A note is made", Some("create")));
        assert_eq!((create.method.as_str(), create.url.as_str()), ("POST", "{{base}}/api/notes"));
        assert_eq!(create.headers[1], ("authorization".into(), "Bearer {{alice}}".into()));
        assert_eq!(create.body.as_deref(), Some("{\n  \"title\": \"# no comment\"\n}"));
        assert_eq!(create.expectations.len(), 2);
    }

    #[test]
    fn a_query_may_stand_on_lines_of_its_own_and_a_request_may_be_tried_again() {
        let search = &requests(FILE)[1];
        assert_eq!(search.url, "{{base}}/v1/search?query=tea&limit=3");
        assert_eq!(search.eventually, Some(Duration::from_millis(1500)));
        assert_eq!(search.body, None);
    }

    #[test]
    fn variables_keep_their_order() {
        let entries = parse(FILE).unwrap();
        let names: Vec<_> = entries
            .iter()
            .filter_map(|e| if let Entry::Variable(n, _) = e { Some(n.as_str()) } else { None })
            .collect();
        assert_eq!(names, ["base", "note"]);
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let error = format!("{:#}", parse("### x\n# @expect statsu 200\nGET /\n").unwrap_err());
        assert!(error.contains("line 2") && error.contains("statsu"), "{error}");
        assert!(
            format!("{:#}", parse("### x\n# @eventually soon\nGET /").unwrap_err()).contains("500ms or 2s")
        );
    }

    #[test]
    fn a_request_that_expects_nothing_is_refused() {
        assert!(parse("### x\nGET /\n").unwrap_err().to_string().contains("no # @expect"));
    }
}
