//! The route table: a trie over path segments, searched with backtracking.
//! A path position is its depth in the trie, so a search visits each node at most once.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use http::Method;

use crate::{
    LoadError,
    binding::Binding,
    load,
    template::{Segment, Variable},
};

#[derive(Debug, Default)]
pub(crate) struct Router {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<String, Node>,
    one: Option<Box<Node>>,
    /// What follows a `**` here. A template has at most one, so a search branches over lengths at most once.
    rest: Option<Box<Node>>,
    /// Bindings whose template ends here.
    ends: Vec<Arc<Binding>>,
}

/// What a search found.
pub(crate) enum Found<'a> {
    /// The binding with its raw captures.
    Binding(&'a Arc<Binding>, Vec<String>),
    OtherMethods(Vec<Method>),
    Nothing,
}

impl Router {
    /// Adds a binding, unless another one takes the same requests.
    pub(crate) fn insert(&mut self, binding: &Arc<Binding>) -> Result<(), LoadError> {
        let mut node = &mut self.root;
        for segment in &binding.template.segments {
            match segment {
                Segment::Literal(text) => node = node.literals.entry(text.clone()).or_default(),
                Segment::One => node = node.one.get_or_insert_default(),
                Segment::Rest => node = node.rest.get_or_insert_default(),
            }
        }
        let bindings = &mut node.ends;
        let same = |other: &&Arc<Binding>| {
            other.verb == binding.verb && other.template.verb == binding.template.verb
        };
        if let Some(other) = bindings.iter().find(same) {
            return Err(LoadError::Conflict {
                method: load::named(binding.method.descriptor()),
                route: format!("{} {}", binding.verb, binding.template.text()),
                other: other.method.full_name().to_owned(),
            });
        }
        bindings.push(binding.clone());
        Ok(())
    }

    /// Finds the binding for a path as received (percent-encoded).
    pub(crate) fn find(&self, method: &Method, path: &str) -> Found<'_> {
        let Some(path) = path.strip_prefix('/') else { return Found::Nothing };
        let mut search =
            Search { method, verb: None, segments: path.split('/').collect(), get: None, allow: vec![] };
        // A template with a verb wins; a colon that is no verb belongs to the last segment.
        let last = search.segments.len() - 1;
        let whole = search.segments[last];
        if let Some((head, verb)) = whole.rsplit_once(':') {
            search.segments[last] = head;
            search.verb = Some(decoded(verb));
            if let Some(binding) = search.run(&self.root) {
                return Found::Binding(binding, captures(binding, &search.segments));
            }
            search.segments[last] = whole;
            search.verb = None;
        }
        if let Some(binding) = search.run(&self.root) {
            return Found::Binding(binding, captures(binding, &search.segments));
        }
        search.allowed()
    }
}

/// One search; collects the methods of what would match under another one.
struct Search<'p, 'r> {
    method: &'p Method,
    verb: Option<Cow<'p, str>>,
    segments: Vec<&'p str>,
    /// The first `GET` binding passed, for a `HEAD` without a binding of its own.
    get: Option<&'r Arc<Binding>>,
    allow: Vec<&'r Method>,
}

impl<'r> Search<'_, 'r> {
    fn run(&mut self, root: &'r Node) -> Option<&'r Arc<Binding>> {
        self.get = None;
        self.walk(root, 0).or(self.get)
    }

    fn walk(&mut self, node: &'r Node, depth: usize) -> Option<&'r Arc<Binding>> {
        let Some(&segment) = self.segments.get(depth) else {
            return self.check(&node.ends).or_else(|| self.walk(node.rest.as_deref()?, depth));
        };
        if let Some(next) = node.literals.get(decoded(segment).as_ref())
            && let Some(found) = self.walk(next, depth + 1)
        {
            return Some(found);
        }
        if let Some(next) = &node.one
            && !segment.is_empty()
            && let Some(found) = self.walk(next, depth + 1)
        {
            return Some(found);
        }
        let rest = node.rest.as_deref()?;
        // Where nothing follows, all that is left belongs to the `**`.
        let is_last = rest.literals.is_empty() && rest.one.is_none();
        let shortest = if is_last { self.segments.len() } else { depth };
        (shortest..=self.segments.len()).find_map(|end| self.walk(rest, end))
    }

    fn check(&mut self, bindings: &'r [Arc<Binding>]) -> Option<&'r Arc<Binding>> {
        for binding in bindings {
            if binding.template.verb.as_deref() != self.verb.as_deref() {
                continue;
            }
            if binding.verb == self.method {
                return Some(binding);
            }
            if self.method == Method::HEAD && binding.verb == Method::GET && self.get.is_none() {
                self.get = Some(binding);
            }
            self.allow.push(&binding.verb);
        }
        None
    }

    fn allowed(self) -> Found<'r> {
        if self.allow.is_empty() {
            return Found::Nothing;
        }
        let mut allow: Vec<Method> = self.allow.into_iter().cloned().collect();
        if allow.contains(&Method::GET) {
            allow.push(Method::HEAD);
        }
        allow.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        allow.dedup();
        Found::OtherMethods(allow)
    }
}

/// The raw text that each variable covers.
fn captures(binding: &Binding, segments: &[&str]) -> Vec<String> {
    let template = &binding.template;
    // What stands behind the `**` moves by as much as that is longer than one segment.
    let rest = template.segments.iter().position(|segment| *segment == Segment::Rest);
    let place = |index: usize| match rest {
        Some(rest) if index > rest => index + segments.len() - template.segments.len(),
        _ => index,
    };
    let covered = |variable: &Variable| segments[place(variable.start)..place(variable.end)].join("/");
    template.variables.iter().map(covered).collect()
}

/// Literals compare decoded, so that `/v1/%6Eotes` is `/v1/notes`.
fn decoded(segment: &str) -> Cow<'_, str> {
    if segment.contains('%') {
        percent_encoding::percent_decode_str(segment).decode_utf8_lossy()
    } else {
        Cow::Borrowed(segment)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::Method;

    use crate::{Contract, LoadError, Routed};

    fn service(rules: &[&str]) -> Result<Contract, LoadError> {
        let methods = rules.iter().enumerate().map(|(index, rule)| {
            format!("rpc M{index}(In) returns (In) {{ option (google.api.http) = {{{rule}}}; }}")
        });
        let methods = methods.collect::<String>();
        let source = format!(
            "syntax = \"proto3\"; package t; import \"google/api/annotations.proto\";
             service S {{ {methods} }} message In {{ string a = 1; string b = 2; In c = 3; repeated string l = 4; }}"
        );
        Contract::from_sources(&BTreeMap::from([("t.proto", source)]))
    }

    fn found(contract: &Contract, method: &Method, path: &str) -> String {
        match contract.route(method, path) {
            Routed::Matched(matched) => {
                format!("{} {}", matched.method().name(), matched.captures.join(",")).trim_end().to_owned()
            }
            Routed::MethodNotAllowed { allow } => {
                format!("405 {}", allow.iter().map(Method::as_str).collect::<Vec<_>>().join(","))
            }
            Routed::NotFound => "404".to_owned(),
        }
    }

    #[test]
    fn precedence_captures_and_verbs() {
        let contract = service(&[
            r#"get: "/v1/notes/{a}""#,                                                     // M0
            r#"get: "/v1/notes/special""#,                                                 // M1
            r#"post: "/v1/notes/{a}:archive""#,                                            // M2
            r#"delete: "/v1/{a=files/**}""#,                                               // M3
            r#"get: "/v1/{a=notes/*}/tags/{b}""#,                                          // M4
            r#"get: "/v1/{a=**}:read""#,                                                   // M5
            r#"post: "/v1/notes" body: "*" additional_bindings {put: "/v1/notes/{c.a}"}"#, // M6
            r#"custom: {kind: "REPORT" path: "/v1/custom"}"#,                              // M7
            r#"get: "/v1/*/x/**""#,                                                        // M8
            r#"get: "/v2/{a=**}/history/{b}""#,                                            // M9
            r#"post: "/v2/{a=trees/**/leaves}:shake""#,                                    // M10
        ])
        .unwrap();
        for (method, path, expected) in [
            (Method::GET, "/v1/notes/1", "M0 1"),
            (Method::HEAD, "/v1/notes/1", "M0 1"),
            (Method::GET, "/v1/notes/special", "M1"),
            (Method::GET, "/v1/notes/%73pecial", "M1"),
            (Method::POST, "/v1/notes/1:archive", "M2 1"),
            (Method::GET, "/v1/notes/1:archive", "M0 1:archive"),
            (Method::GET, "/v1/notes/1%3Aread", "M0 1%3Aread"),
            (Method::GET, "/v1/notes/1:read", "M5 notes/1"),
            (Method::GET, "/v1/:read", "M5"),
            (Method::DELETE, "/v1/files/a/b%2Fc/d", "M3 files/a/b%2Fc/d"),
            (Method::DELETE, "/v1/files", "M3 files"),
            (Method::DELETE, "/v1/files/", "M3 files/"),
            (Method::GET, "/v1/notes/1/tags/x", "M4 notes/1,x"),
            (Method::POST, "/v1/notes", "M6"),
            (Method::PUT, "/v1/notes/1", "M6 1"),
            (Method::from_bytes(b"REPORT").unwrap(), "/v1/custom", "M7"),
            (Method::GET, "/v1/notes/x/y/z", "M8"),
            (Method::GET, "/v1/notes/x", "M0 x"),
            (Method::GET, "/v1/other/x", "M8"),
            (Method::GET, "/v2/x/y/history/7", "M9 x/y,7"),
            (Method::GET, "/v2/history/history/7", "M9 history,7"),
            (Method::GET, "/v2/history/7", "M9 ,7"),
            (Method::POST, "/v2/trees/a/b/leaves:shake", "M10 trees/a/b/leaves"),
            (Method::POST, "/v2/trees/leaves:shake", "M10 trees/leaves"),
            (Method::POST, "/v2/trees/a/leaves", "404"),
            (Method::GET, "/v2/x/y/history", "404"),
            (Method::GET, "/v1/notes", "405 POST"),
            (Method::PATCH, "/v1/notes/1", "405 GET,HEAD,PUT"),
            (Method::OPTIONS, "/v1/notes/special", "405 GET,HEAD,PUT"),
            (Method::GET, "/v1/notes/", "404"),
            (Method::GET, "/v1/notes//tags/x", "404"),
            (Method::GET, "/v2/notes", "404"),
            (Method::GET, "/", "404"),
            (Method::OPTIONS, "*", "404"),
        ] {
            assert_eq!(found(&contract, &method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_route_can_be_taken_once() {
        let error = service(&[r#"get: "/v1/{a}""#, r#"get: "/v1/{b=*}""#]).unwrap_err();
        assert_eq!(error.to_string(), "t.proto:2: t.S.M1: GET /v1/{b=*} is already taken by t.S.M0");
        service(&[r#"get: "/v1/{a}""#, r#"post: "/v1/{a}""#, r#"get: "/v1/{a}:x""#, r#"get: "/v1/{a=**}""#])
            .unwrap();
    }

    #[test]
    fn bad_rules_name_the_method_and_what_is_wrong() {
        for (rule, expected) in [
            (r#"get: "/v1/{nope}""#, "t.S.M0: path template \"/v1/{nope}\": t.In has no field nope"),
            (r#"get: "/v1/{c.nope}""#, "t.In has no field nope"),
            (r#"get: "/v1/{a.b}""#, "a is not a message"),
            (r#"get: "/v1/{l}""#, "l is repeated"),
            (r#"get: "/v1/{c}""#, "c is a message"),
            (r#"post: "/v1" body: "nope""#, "body: t.In has no field nope"),
            (r#"get: "/v1" response_body: "nope""#, "response_body: t.In has no field nope"),
            (r#"get: "/v1/{a""#, "expected `}`, found the end"),
            (r#"get: "/v1" body: "*""#, "GET cannot have a body"),
            (r#"body: "*""#, "states no HTTP method"),
            (r#"custom: {kind: "NO GOOD" path: "/v1"}"#, "\"NO GOOD\" is not an HTTP method"),
            (
                r#"get: "/v1" additional_bindings {get: "/v2" additional_bindings {get: "/v3"}}"#,
                "additional_bindings cannot be nested",
            ),
        ] {
            let error = service(&[rule]).unwrap_err().to_string();
            assert!(error.starts_with("t.proto:2: t.S.M0: ") && error.contains(expected), "{rule}: {error}");
        }
    }
}
