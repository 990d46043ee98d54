//! The documents' schemas against a validator: they accept what the transcoder accepts and emits, and nothing else.

use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use super::{document, zoo};
use crate::{Contract, Routed};

fn project() -> Contract {
    let folder = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").join(path);
    Contract::compile(&[folder("proto"), folder("gateway/tests/fixtures/contracts")], crate::Unknown::Refused)
        .unwrap()
}

/// Checks values against the schemas of a document.
struct Validator {
    schemas: boon::Schemas,
    compiler: boon::Compiler,
}

impl Validator {
    fn new(document: &Value) -> Self {
        let mut compiler = boon::Compiler::new();
        compiler.enable_format_assertions();
        compiler.add_resource("https://test.example/openapi.json", document.clone()).unwrap();
        Self { schemas: boon::Schemas::new(), compiler }
    }

    /// `pointer`: the parts of the path to a schema.
    fn errors(&mut self, pointer: &[&str], value: &Value) -> Option<String> {
        let escaped = pointer.iter().map(|part| {
            let part = part.replace('~', "~0").replace('/', "~1");
            percent_encoding::utf8_percent_encode(&part, percent_encoding::NON_ALPHANUMERIC).to_string()
        });
        let at = format!("https://test.example/openapi.json#/{}", escaped.collect::<Vec<_>>().join("/"));
        let schema = self.compiler.compile(&at, &mut self.schemas).unwrap_or_else(|e| panic!("{at}: {e:#}"));
        self.schemas.validate(value, schema).err().map(|error| format!("{error:#}"))
    }

    fn animal(&mut self, value: &Value) -> Option<String> {
        self.errors(&["components", "schemas", "zoo.v1.Animal"], value)
    }
}

/// Every place with a schema and an example beside it.
fn examples(value: &Value, at: &mut Vec<String>, found: &mut Vec<(Vec<String>, Value)>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => return,
    };
    if let (Some(_), Some(example)) = (value.get("schema"), value.get("example")) {
        found.push((at.iter().cloned().chain(["schema".to_owned()]).collect(), example.clone()));
    }
    for (key, child) in children.into_iter().filter(|(key, _)| key != "example") {
        at.push(key);
        examples(child, at, found);
        at.pop();
    }
}

#[test]
fn every_example_is_valid_under_its_schema() {
    for contract in [zoo(), project()] {
        let document = document(&contract);
        let (mut found, mut validator) = (vec![], Validator::new(&document));
        examples(&document, &mut vec![], &mut found);
        assert!(found.len() > 20, "{}", found.len());
        for (at, example) in &found {
            let at: Vec<_> = at.iter().map(String::as_str).collect();
            assert_eq!(validator.errors(&at, example), None, "{at:?}: {example}");
        }
    }
}

#[test]
fn every_example_of_a_request_is_accepted() {
    for contract in [zoo(), project()] {
        let document = document(&contract);
        let mut checked = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (verb, operation) in item.as_object().unwrap() {
                let (target, query) = target(path, operation);
                let verb = Method::from_bytes(verb.to_uppercase().as_bytes()).unwrap();
                let Routed::Matched(matched) = contract.route(&verb, &target) else {
                    panic!("{verb} {target}")
                };
                assert_eq!(matched.method().grpc_path().as_str(), operation["x-grpc-method"]);
                let content = operation["requestBody"]["content"].as_object();
                let example = content.and_then(|content| content.values().next()?.get("example"));
                let body = example.map(Value::to_string).unwrap_or_default();
                matched
                    .encode_request(Some(&query), body.as_bytes())
                    .unwrap_or_else(|error| panic!("{verb} {target}?{query} {body}: {error}"));
                checked += 1;
            }
        }
        assert!(checked >= 9, "{checked}");
    }
}

/// The path and the query with every example filled in.
fn target(path: &str, operation: &Value) -> (String, String) {
    let (mut path, mut query) = (path.to_owned(), vec![]);
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        let example = match parameter.get("example") {
            None => continue,
            Some(Value::Array(list)) => list[0].clone(),
            Some(example) => example.clone(),
        };
        let text = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
        let text = percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC);
        if parameter["in"] == "path" {
            path = path.replace(&format!("{{{name}}}"), &text.to_string());
        } else {
            query.push(format!("{name}={text}"));
        }
    }
    (path, query.join("&"))
}

#[test]
fn what_the_transcoder_emits_is_valid_under_the_schema() {
    let contract = zoo();
    let document = document(&contract);
    let mut validator = Validator::new(&document);
    let echo = contract.method_by_grpc_path("/zoo.v1.ZooService/Echo").unwrap();
    for sent in [
        json!({}),
        json!({"weight": "NaN", "height": "-Infinity", "altitude": -9_007_199_254_740_993_i64, "chip": u64::MAX,
            "photo": "_-8", "tame": false, "diet": 2, "legs": i32::MIN, "teeth": u32::MAX}),
        json!({"friends": {"a": {"pond": ""}}, "rooms": {"-1": "x"}, "votes": {"true": 3}, "tags": ["", "a"]}),
        json!({"born": "2026-01-02T03:04:05.123456789+01:00", "gestation": "-0.5s", "mask": "name,oddName.x"}),
        json!({"extra": {"a": [null, {"b": 1.5}]}, "anything": null, "list": [1, "x", null], "nothing": {},
            "detail": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "3s"}}),
        json!({"maybeCount": "5", "maybeText": "", "maybeBytes": "AQI=", "age": 0, "void": null, "@odd": "x",
            "samples": [1, -2.5], "nest": {}, "mother": {"mother": {"house": 0}}}),
    ] {
        let message = echo.request_from_json(sent.to_string().as_bytes()).unwrap();
        let mut json = vec![];
        echo.response_to_json(&message, &mut json).unwrap();
        let emitted: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(validator.animal(&emitted), None, "{emitted}");
    }
}

#[test]
fn what_the_transcoder_refuses_is_invalid_under_the_schema() {
    let contract = zoo();
    let mut validator = Validator::new(&document(&contract));
    let echo = contract.method_by_grpc_path("/zoo.v1.ZooService/Echo").unwrap();
    for sent in [
        json!({"nope": 1}),
        json!({"house": 1, "pond": "x"}),
        json!({"pond": "x", "nest": {}}),
        json!({"legs": 1.5}),
        json!({"legs": 2_147_483_648_i64}),
        json!({"teeth": -1}),
        json!({"chip": "-1"}),
        json!({"altitude": "many"}),
        json!({"weight": "heavy"}),
        json!({"photo": "%"}),
        json!({"diet": "DIET_NOPE"}),
        json!({"tags": "a"}),
        json!({"rooms": {"x": "y"}}),
        json!({"votes": {"maybe": 1}}),
        json!({"born": "yesterday"}),
        json!({"gestation": "1h"}),
        json!({"extra": []}),
        json!({"nothing": {"a": 1}}),
        json!({"mother": {"mother": {"nope": 1}}}),
        json!([]),
    ] {
        assert!(echo.request_from_json(sent.to_string().as_bytes()).is_err(), "the transcoder takes {sent}");
        assert!(validator.animal(&sent).is_some(), "the schema takes {sent}");
    }
}
