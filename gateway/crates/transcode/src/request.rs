//! A request's parts to the bytes of the method's request message.

use crate::{
    TranscodeError,
    binding::{Binding, Body},
    from_json,
    query::Parameters,
    violations::Violations,
};

/// Body first, then the query, then the path, which wins.
pub(crate) fn encode(
    binding: &Binding,
    captures: &[String],
    query: Option<&str>,
    body: &[u8],
) -> Result<Vec<u8>, TranscodeError> {
    let violations = Violations::default();
    let mut message = Vec::with_capacity(body.len());
    read_body(binding, body, &violations, &mut message)?;
    if !captures.is_empty() || query.is_some() {
        let body_field = binding.compiled.body.filter(|_| !message.is_empty());
        let mut parameters = Parameters::new(binding, &violations, &mut message);
        if let Some(place) = body_field {
            parameters.body_field(&binding.compiled.input.plan().fields[place]);
        }
        if let Some(query) = query {
            parameters.query(query);
        }
        parameters.captures(captures);
    }
    violations.into_result(message)
}

/// The body alone, as a later message of a request stream.
pub(crate) fn encode_next(binding: &Binding, body: &[u8]) -> Result<Vec<u8>, TranscodeError> {
    encode(binding, &[], None, body)
}

fn read_body(
    binding: &Binding,
    body: &[u8],
    violations: &Violations,
    out: &mut Vec<u8>,
) -> Result<(), TranscodeError> {
    let input = &binding.compiled.input;
    let unknown = input.plans().unknown();
    match (&binding.body, binding.compiled.body) {
        _ if body.is_empty() => Ok(()),
        (Body::Message, _) => from_json::message(input.plans(), input.id(), body, unknown, violations, out),
        (Body::Field(_), Some(place)) => {
            let field = &input.plan().fields[place];
            from_json::field(input.plans(), field, body, unknown, violations, out)
        }
        _ => {
            violations.add("body", "this method takes no body");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use crate::{
        TranscodeError,
        testing::{json_of, lenient_notes, notes, request, request_to},
    };

    #[test]
    fn path_query_and_body_meet_in_one_message() {
        for (method, uri, body, expected) in [
            (Method::GET, "/v1/notes/7", "", r#"{"id":"7"}"#),
            (Method::GET, "/v1/notes/a%2Fb", "", r#"{"id":"a/b"}"#),
            (
                Method::GET,
                "/v1/notes/7?limit=3&kinds=KIND_DRAFT&kinds=2",
                "",
                r#"{"id":"7","limit":3,"kinds":["KIND_DRAFT","KIND_FINAL"]}"#,
            ),
            (
                Method::GET,
                "/v1/notes/7?filter.owner.name=ann&filter.tags=a&filter.tags=b+c%26",
                "",
                r#"{"id":"7","filter":{"owner":{"name":"ann"},"tags":["a","b c&"]}}"#,
            ),
            (
                Method::GET,
                "/v1/notes/7?filter.min_score=0.5&filter.maxScore=1e3",
                "",
                r#"{"id":"7","filter":{"minScore":0.5,"maxScore":1000.0}}"#,
            ),
            (
                Method::GET,
                "/v1/notes/7?big=9007199254740993&raw=-_8&deep=true&",
                "",
                r#"{"id":"7","big":"9007199254740993","raw":"+/8=","deep":true}"#,
            ),
            (
                Method::GET,
                "/v1/notes/7?since=2026-01-02T03:04:05Z&wait=1.5s&cap=4",
                "",
                r#"{"id":"7","since":"2026-01-02T03:04:05Z","wait":"1.500s","cap":4}"#,
            ),
            (Method::POST, "/v1/notes", r#"{"id":"1","limit":"12"}"#, r#"{"id":"1","limit":12}"#),
            (Method::POST, "/v1/notes", "", "{}"),
            (
                Method::POST,
                "/v1/notes",
                r#" {"limit":1.0,"big":12,"kinds":["KIND_FINAL",1],"max_items":2} "#,
                r#"{"limit":1,"big":"12","kinds":["KIND_FINAL","KIND_DRAFT"],"maxItems":2}"#,
            ),
            (
                Method::POST,
                "/v1/notes",
                r#"{"labels":{"a":{"name":"x"}},"counts":{"1":2},"id":null}"#,
                r#"{"labels":{"a":{"name":"x"}},"counts":{"1":2}}"#,
            ),
            (
                Method::POST,
                "/v1/notes",
                r#"{"extra":{"a":[1,null,{"b":"c"}]},"since":"2026-01-01T00:00:00Z","cap":5}"#,
                r#"{"since":"2026-01-01T00:00:00Z","cap":5,"extra":{"a":[1.0,null,{"b":"c"}]}}"#,
            ),
            (
                Method::PUT,
                "/v1/notes/9/filter?limit=2",
                r#"{"owner":{"name":"bob"}}"#,
                r#"{"id":"9","limit":2,"filter":{"owner":{"name":"bob"}}}"#,
            ),
            (Method::PUT, "/v1/notes/9/tags", r#"["a","b"]"#, r#"{"id":"9","tags":["a","b"]}"#),
            (Method::DELETE, "/v1/files/a/b%2Fc", "", r#"{"id":"files/a/b%2Fc"}"#),
            (
                Method::PATCH,
                "/v1/owners/ann",
                r#"{"filter":{"tags":["x"],"owner":{"name":"bob"}}}"#,
                r#"{"filter":{"owner":{"name":"ann"},"tags":["x"]}}"#,
            ),
        ] {
            let bytes =
                request(&method, uri, body).unwrap_or_else(|error| panic!("{method} {uri} {body}: {error}"));
            assert_eq!(
                json_of("t.Note", &bytes),
                serde_json::from_str::<serde_json::Value>(expected).unwrap(),
                "{method} {uri} {body}"
            );
        }
    }

    #[test]
    fn every_violation_names_its_field() {
        for (method, uri, body, expected) in [
            (Method::POST, "/v1/notes", r#"{"tags":[1]}"#, "tags[0]: expected a string, found a number"),
            (Method::POST, "/v1/notes", r#"{"tags":["a",null]}"#, "tags[1]: expected a string, found null"),
            (Method::POST, "/v1/notes", r#"{"tags":"a"}"#, "tags: expected an array, found a string"),
            (
                Method::POST,
                "/v1/notes",
                r#"{"nope":1,"limit":"x"}"#,
                "nope: no such field in t.Note; limit: expected an integer, found \"x\"",
            ),
            (
                Method::POST,
                "/v1/notes",
                r#"{"filter":{"owner":{"nme":[{}]}}}"#,
                "filter.owner.nme: no such field in t.Owner",
            ),
            (Method::POST, "/v1/notes", r#"{"filter":[1,{}]}"#, "filter: expected an object, found an array"),
            (Method::POST, "/v1/notes", r#"{"limit":2147483648}"#, "limit: 2147483648 is out of range"),
            (Method::POST, "/v1/notes", r#"{"limit":1.5}"#, "limit: expected an integer, found 1.5"),
            (Method::POST, "/v1/notes", r#"{"limit":true}"#, "limit: expected an integer, found a boolean"),
            (Method::POST, "/v1/notes", r#"{"deep":"true"}"#, "deep: expected true or false, found a string"),
            (
                Method::POST,
                "/v1/notes",
                r#"{"kinds":["NOPE"]}"#,
                "kinds[0]: expected one of KIND_UNSPECIFIED, KIND_DRAFT, KIND_FINAL, found \"NOPE\"",
            ),
            (Method::POST, "/v1/notes", r#"{"raw":"*"}"#, "raw: expected a base64 string, found \"*\""),
            (Method::POST, "/v1/notes", r#"{"id":"a","id":"b"}"#, "id: is given more than once"),
            (
                Method::POST,
                "/v1/notes",
                r#"{"maxItems":1,"max_items":1}"#,
                "max_items: is given more than once",
            ),
            (
                Method::POST,
                "/v1/notes",
                r#"{"counts":{"x":1}}"#,
                "counts[\"x\"]: key: expected an integer, found \"x\"",
            ),
            (
                Method::POST,
                "/v1/notes",
                r#"{"counts":{"1":1,"1":2}}"#,
                "counts[\"1\"]: is given more than once",
            ),
            (
                Method::POST,
                "/v1/notes",
                r#"{"labels":{"k":{"name":1}}}"#,
                "labels[\"k\"].name: expected a string, found a number",
            ),
            (
                Method::POST,
                "/v1/notes",
                r#"{"extra":{"a":1,"a":2}}"#,
                "extra[\"a\"]: is given more than once",
            ),
            (
                Method::POST,
                "/v1/notes",
                r#"{"text":"a","page":1}"#,
                "page: cannot be given together with text",
            ),
            (Method::POST, "/v1/notes", "[]", "body: expected an object, found an array"),
            (Method::POST, "/v1/notes", "null", "body: expected an object, found null"),
            (
                Method::POST,
                "/v1/notes?limit=1",
                "{}",
                "limit: is not a query parameter: all fields are in the body or the path",
            ),
            (Method::PUT, "/v1/notes/9/tags", "{}", "tags: expected an array, found an object"),
            (Method::PUT, "/v1/notes/9/tags?tags=x", "[]", "tags: is set by the body"),
            (Method::GET, "/v1/notes/7", "{}", "body: this method takes no body"),
            (Method::GET, "/v1/notes/7?nope=1", "", "nope: no such field in t.Note"),
            (Method::GET, "/v1/notes/7?filter.nope=1", "", "filter.nope: no such field in t.Filter"),
            (
                Method::GET,
                "/v1/notes/7?filter=1",
                "",
                "filter: cannot be given as a query parameter; name one of its fields",
            ),
            (
                Method::GET,
                "/v1/notes/7?labels.a=1",
                "",
                "labels.a: labels has no fields that a query can set",
            ),
            (Method::GET, "/v1/notes/7?id=8", "", "id: is set by the path"),
            (Method::GET, "/v1/notes/7?limit=1&limit=2", "", "limit: is given more than once"),
            (Method::GET, "/v1/notes/7?limit", "", "limit: expected an integer, found \"\""),
            (Method::GET, "/v1/notes/7?deep=1", "", "deep: expected true or false, found \"1\""),
            (Method::GET, "/v1/notes/7?text=a&page=1", "", "page: cannot be given together with text"),
            (Method::GET, "/v1/notes/7?since=today", "", "since: expected a Timestamp, found \"today\""),
            (Method::GET, "/v1/notes/7?limit=%zz", "", "limit: is not valid percent-encoded UTF-8"),
            (Method::GET, "/v1/notes/%ff", "", "id: is not valid percent-encoded UTF-8"),
        ] {
            let error = request(&method, uri, body).expect_err(uri);
            let TranscodeError::Invalid(violations) = &error else { panic!("{error}") };
            let all =
                violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect::<Vec<_>>();
            assert_eq!(all.join("; "), expected, "{method} {uri} {body}");
        }
    }

    #[test]
    fn a_contract_may_ignore_what_it_does_not_know_and_that_alone() {
        let contract = lenient_notes();
        for (method, uri, body, expected) in [
            (Method::POST, "/v1/notes", r#"{"id":"1","nope":{"a":[1]},"x":null}"#, r#"{"id":"1"}"#),
            (
                Method::POST,
                "/v1/notes",
                r#"{"filter":{"nope":1,"tags":["a"]},"kinds":["KIND_NEW","KIND_DRAFT"]}"#,
                r#"{"filter":{"tags":["a"]},"kinds":["KIND_DRAFT"]}"#,
            ),
            (Method::POST, "/v1/notes?nope=1", r#"{"id":"1"}"#, r#"{"id":"1"}"#),
            (
                Method::GET,
                "/v1/notes/7?nope=1&filter.nope=2&limit=3&kinds=KIND_NEW&kinds=KIND_DRAFT&kinds=2",
                "",
                r#"{"id":"7","limit":3,"kinds":["KIND_DRAFT","KIND_FINAL"]}"#,
            ),
        ] {
            let bytes = request_to(&contract, &method, uri, body).expect(uri);
            let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
            assert_eq!(json_of("t.Note", &bytes), expected, "{method} {uri} {body}");
        }
        for (method, uri, body) in [
            (Method::POST, "/v1/notes", r#"{"limit":"x"}"#),
            (Method::POST, "/v1/notes", r#"{"nope":}"#),
            (Method::POST, "/v1/notes?limit=1", "{}"),
            (Method::GET, "/v1/notes/7?limit=x", ""),
            (Method::GET, "/v1/notes/7?filter=1", ""),
            (Method::GET, "/v1/notes/7?id=8", ""),
        ] {
            assert!(request_to(&contract, &method, uri, body).is_err(), "{method} {uri} {body}");
        }
        let crate::Routed::Matched(matched) = contract.route(&Method::POST, "/v1/notes") else { panic!() };
        assert!(matched.method().request_from_json(br#"{"nope":1}"#).is_ok(), "without a binding, too");
        assert!(notes_request_bytes(br#"{"nope":1}"#).is_err());
    }

    #[test]
    fn invalid_json_says_where() {
        for (body, expected) in [
            ("{", "expected a key or `}` at line 1 column 2"),
            ("{\"id\": }", "expected a value at line 1 column 8"),
            ("{}\n{}", "expected the end, found more data at line 2 column 1"),
            ("{\"id\":\"\u{1}\"}", "a control character in a string"),
            ("{'id':1}", "expected a key or `}`"),
        ] {
            let error = request(&Method::POST, "/v1/notes", body).unwrap_err();
            assert!(matches!(error, TranscodeError::Syntax { .. }), "{error}");
            assert!(error.to_string().contains(expected), "{body}: {error}");
        }
        assert!(matches!(notes_request_bytes(b"{\"id\":\"\xff\"}"), Err(TranscodeError::Syntax { .. })));
    }

    fn notes_request_bytes(body: &[u8]) -> Result<Vec<u8>, TranscodeError> {
        let crate::Routed::Matched(matched) = notes().route(&Method::POST, "/v1/notes") else { panic!() };
        matched.encode_request(None, body)
    }

    #[test]
    fn nesting_is_bounded_in_messages_and_in_free_json() {
        let nested = |depth: usize| format!("{}{}", r#"{"child":"#.repeat(depth) + "{}", "}".repeat(depth));
        assert!(request(&Method::POST, "/v1/notes", &nested(99)).is_ok());
        let error = request(&Method::POST, "/v1/notes", &nested(101)).unwrap_err();
        assert!(error.to_string().contains("nested deeper than 100 levels"), "{error}");
        // Of a Value's lists each is two messages: what is taken must not be more than readers of the wire take.
        let values =
            |depth: usize| format!(r#"{{"extra":{{"a":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth));
        json_of("t.Note", &request(&Method::POST, "/v1/notes", &values(49)).unwrap());
        let error = request(&Method::POST, "/v1/notes", &values(50)).unwrap_err();
        assert!(error.to_string().contains("nested deeper than 100 levels"), "{error}");
    }

    #[test]
    fn violations_are_bounded() {
        let body = format!(r#"{{"tags":[{}1]}}"#, "1,".repeat(1000));
        assert_eq!(request(&Method::POST, "/v1/notes", &body).unwrap_err().violations().len(), 16);
    }
}
