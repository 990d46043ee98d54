//! Path templates of `google.api.http`: literals, `*`, `**`, variables and a verb.
//! Grammar and meaning are those of the comments in google/api/http.proto.

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    text: String,
    pub(crate) segments: Vec<Segment>,
    pub(crate) verb: Option<String>,
    pub(crate) variables: Vec<Variable>,
}

/// One segment of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(String),
    /// `*`: exactly one segment, not empty.
    One,
    /// `**`: any number of segments, perhaps none. At most one in a template, so that what it covers is never in doubt.
    Rest,
}

/// `{field.path=segments}`: the field takes the text of the segments `start..end`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) field_path: Vec<String>,
    pub(crate) start: usize,
    /// The end in the template; in a path, what stands behind a `**` is elsewhere.
    pub(crate) end: usize,
    /// More than one segment may be captured: `%2F` then stays encoded, to tell it from a separator.
    pub(crate) multi: bool,
}

impl Template {
    /// Parses a template; the error says what is wrong and where.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { text, at: 0, segments: vec![], variables: vec![] };
        let problem = |what: String, at: usize| format!("path template {text:?}: {what} (at character {at})");
        parser.expect('/').and_then(|()| parser.segments(false)).map_err(|what| problem(what, parser.at))?;
        let verb = parser.verb().map_err(|what| problem(what, parser.at))?;
        if parser.segments.iter().filter(|segment| **segment == Segment::Rest).count() > 1 {
            return Err(format!("path template {text:?}: only one `**` is allowed"));
        }
        Ok(Self { text: text.to_owned(), segments: parser.segments, verb, variables: parser.variables })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    segments: Vec<Segment>,
    variables: Vec<Variable>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn eat(&mut self, token: char) -> bool {
        let found = self.peek() == Some(token);
        if found {
            self.at += token.len_utf8();
        }
        found
    }

    fn expect(&mut self, token: char) -> Result<(), String> {
        if self.eat(token) { Ok(()) } else { Err(format!("expected `{token}`, found {}", self.found())) }
    }

    fn found(&self) -> String {
        self.peek().map_or_else(|| "the end".to_owned(), |next| format!("`{next}`"))
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> String {
        let rest = &self.text[self.at..];
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
    }

    fn segments(&mut self, in_variable: bool) -> Result<(), String> {
        loop {
            self.segment(in_variable)?;
            if !self.eat('/') {
                return Ok(());
            }
        }
    }

    fn segment(&mut self, in_variable: bool) -> Result<(), String> {
        if self.eat('*') {
            let segment = if self.eat('*') { Segment::Rest } else { Segment::One };
            self.segments.push(segment);
            Ok(())
        } else if self.peek() == Some('{') {
            if in_variable {
                return Err("variables cannot be nested".to_owned());
            }
            self.variable()
        } else {
            let literal = self.literal()?;
            self.segments.push(Segment::Literal(literal));
            Ok(())
        }
    }

    fn literal(&mut self) -> Result<String, String> {
        let literal =
            self.take_while(|c| !matches!(c, '/' | '{' | '}' | '*' | ':' | '=' | '?' | '#') && c > ' ');
        if literal.is_empty() {
            return Err(format!("expected a segment, found {}", self.found()));
        }
        let decoded = percent_encoding::percent_decode_str(&literal).decode_utf8();
        decoded.map(|text| text.into_owned()).map_err(|_| format!("{literal:?} is not UTF-8"))
    }

    fn variable(&mut self) -> Result<(), String> {
        self.expect('{')?;
        let mut field_path = vec![];
        loop {
            let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
                return Err(format!("expected a field name, found {}", self.found()));
            }
            field_path.push(name);
            if !self.eat('.') {
                break;
            }
        }
        if self.variables.iter().any(|variable| variable.field_path == field_path) {
            return Err(format!("the field {} is captured twice", field_path.join(".")));
        }
        let start = self.segments.len();
        if self.eat('=') {
            self.segments(true)?
        } else {
            self.segments.push(Segment::One)
        }
        self.expect('}')?;
        let end = self.segments.len();
        let multi = end - start > 1 || self.segments[start] == Segment::Rest;
        self.variables.push(Variable { field_path, start, end, multi });
        Ok(())
    }

    fn verb(&mut self) -> Result<Option<String>, String> {
        let verb = if self.eat(':') { Some(self.literal()?) } else { None };
        match self.peek() {
            None => Ok(verb),
            Some(_) => Err(format!("expected the end, found {}", self.found())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> String {
        let template = Template::parse(text).unwrap();
        let segments = template.segments.iter().map(|segment| match segment {
            Segment::Literal(literal) => literal.clone(),
            Segment::One => "*".to_owned(),
            Segment::Rest => "**".to_owned(),
        });
        let mut shape = segments.collect::<Vec<_>>().join("/");
        if let Some(verb) = &template.verb {
            shape += &format!(" verb={verb}");
        }
        for variable in &template.variables {
            let multi = if variable.multi { "+" } else { "" };
            shape +=
                &format!(" {}={}..{}{multi}", variable.field_path.join("."), variable.start, variable.end);
        }
        shape
    }

    #[test]
    fn valid_templates() {
        for (text, expected) in [
            ("/v1/notes", "v1/notes"),
            ("/v1/text:embed", "v1/text verb=embed"),
            ("/v1/{id}", "v1/* id=1..2"),
            ("/v1/{id=*}", "v1/* id=1..2"),
            ("/v1/{note.id}/tags/{tag}", "v1/*/tags/* note.id=1..2 tag=3..4"),
            ("/v1/{name=notes/*}", "v1/notes/* name=1..3+"),
            ("/v1/{name=notes/*/tags/*}:move", "v1/notes/*/tags/* verb=move name=1..5+"),
            ("/v1/{path=**}", "v1/** path=1..2+"),
            ("/v1/{name=files/**}:read", "v1/files/** verb=read name=1..3+"),
            ("/v1/{name=literal}", "v1/literal name=1..2"),
            ("/v1/*/x/**", "v1/*/x/**"),
            ("/v1/{a=**}/x/{b}", "v1/**/x/* a=1..2+ b=3..4"),
            ("/{a}:b", "* verb=b a=0..1"),
            ("/v1/caf%C3%A9", "v1/café"),
        ] {
            assert_eq!(shape(text), expected, "{text}");
        }
    }

    #[test]
    fn invalid_templates_say_what_is_wrong_and_where() {
        for (text, expected) in [
            ("", "expected `/`, found the end (at character 0)"),
            ("v1", "expected `/`, found `v`"),
            ("/", "expected a segment, found the end"),
            ("/v1/", "expected a segment, found the end (at character 4)"),
            ("/v1//x", "expected a segment, found `/`"),
            ("/v1/{}", "expected a field name, found `}`"),
            ("/v1/{1a}", "expected a field name"),
            ("/v1/{a", "expected `}`, found the end"),
            ("/v1/{a=}", "expected a segment, found `}`"),
            ("/v1/{a={b}}", "variables cannot be nested"),
            ("/v1/{a}/{a}", "the field a is captured twice"),
            ("/v1/**/x/**", "only one `**` is allowed"),
            ("/v1/{a=**}/x/{b=**}", "only one `**` is allowed"),
            ("/v1/x:", "expected a segment, found the end"),
            ("/v1/x:y/z", "expected the end, found `/`"),
            ("/v1/a*", "expected the end, found `*`"),
            ("/v1/x?y", "expected the end, found `?`"),
            ("/v1/{a}b", "expected the end, found `b`"),
        ] {
            let problem = Template::parse(text).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }
}
