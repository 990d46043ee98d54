//! The document of a contract with every kind of field and binding: what it says.

mod validity;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{ErrorCode, Info};
use crate::{Access, Contract};

const ERRORS: [ErrorCode; 3] = [
    ErrorCode { code: "invalid_argument", status: 400, title: "Invalid request" },
    ErrorCode { code: "unauthenticated", status: 401, title: "Not authenticated" },
    ErrorCode { code: "unsupported_media_type", status: 415, title: "Unsupported media type" },
];

const INFO: Info<'static> = Info {
    title: "Zoo",
    version: "1.0.0",
    description: "",
    errors: &ERRORS,
    problem_type: "urn:test:",
    query_token: Some("access_token"),
};

fn zoo() -> Contract {
    let source = include_str!("../../../../../tests/fixtures/zoo/zoo.proto");
    Contract::from_sources(&BTreeMap::from([("zoo.proto", source)])).unwrap()
}

fn document(contract: &Contract) -> Value {
    contract.openapi(&INFO, |method| *method.access() != Access::Denied)
}

#[test]
fn comments_become_summaries_and_descriptions() {
    let document = document(&zoo());
    let tag = &document["tags"][0];
    assert_eq!(tag["name"], "zoo.v1.ZooService");
    assert_eq!(tag["description"], "Keeps animals. They are fed on time.");
    let get = &document["paths"]["/v1/animals/{name}"]["get"];
    assert_eq!(get["summary"], "Finds an animal");
    assert_eq!(get["description"], "It may be asleep.\n\nAsks nobody.");
    assert_eq!(get["parameters"][0]["description"], "The animal's name.");
    let animal = &document["components"]["schemas"]["zoo.v1.Animal"];
    assert_eq!(animal["description"], "An animal, with one field of each kind.");
    assert_eq!(animal["properties"]["diet"]["description"], "What it eats.");
    assert_eq!(animal["properties"]["mother"]["$ref"], "#/components/schemas/zoo.v1.Animal");
    assert_eq!(animal["properties"]["label"]["deprecated"], true);
    assert_eq!(
        animal["x-oneof"],
        json!([{"name": "home", "members": ["house", "pond", "nest"], "description": "Where it lives."}])
    );
    let diet = &document["components"]["schemas"]["zoo.v1.Diet"];
    assert_eq!(
        diet["x-enumDescriptions"],
        json!({"DIET_UNSPECIFIED": "Not known.", "DIET_PLANTS": "Plants."})
    );
}

#[test]
fn descriptor_sets_that_carry_comments_keep_them() {
    let source = include_str!("../../../../../tests/fixtures/zoo/zoo.proto");
    let sources = BTreeMap::from([("zoo.proto".to_owned(), source.to_owned())]);
    let set = crate::load::sources(sources).unwrap().encode_to_vec();
    assert_eq!(document(&Contract::from_descriptor_set(&set).unwrap()), document(&zoo()));
}

#[test]
fn paths_have_parameters_without_slashes() {
    let document = document(&zoo());
    let paths = &document["paths"];
    let found = &paths["/v1/houses/{name_1}/animals/{name_2}:find"]["get"];
    assert_eq!(found["operationId"], "zoo.v1.ZooService.Get.2");
    assert_eq!(found["parameters"][1]["x-pattern"], "{name=houses/*/animals/*}");
    let release = &paths["/v1/paths/{name}"]["delete"]["parameters"][0];
    assert_eq!((&release["name"], &release["x-allow-reserved"]), (&json!("name"), &json!(true)));
    // The same path with another name in another template.
    let update = &paths["/v1/animals/{name}"]["patch"]["parameters"][0];
    assert_eq!((&update["name"], &update["x-field"]), (&json!("name"), &json!("animal.name")));
    assert_eq!(
        document["x-omitted"],
        json!([{"operationId": "zoo.v1.ZooService.Purge", "method": "PURGE", "path": "/v1/animals/{name}",
            "reason": "OpenAPI 3.1 has no such HTTP method"}])
    );
    assert!(!document.to_string().contains("hidden"), "what is not included is not hinted at");
}

#[test]
fn query_parameters_are_the_fields_that_a_query_can_set() {
    let document = document(&zoo());
    let parameters = document["paths"]["/v1/animals/{name}"]["get"]["parameters"].as_array().unwrap();
    let names: Vec<_> =
        parameters.iter().filter(|p| p["in"] == "query").map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["filter.minWeight", "filter.tags", "filter.keeper", "filter.house", "seenSince", "maxLegs", "diets"]
    );
    let named = |name: &str| parameters.iter().find(|p| p["name"] == name).unwrap();
    assert_eq!(named("filter.keeper")["x-oneof"], "by");
    assert!(
        named("filter.keeper").get("example").is_some() && named("filter.house").get("example").is_none()
    );
    assert_eq!(named("maxLegs")["schema"]["type"], "integer");
    assert_eq!(named("seenSince")["schema"], json!({"type": "string", "format": "date-time"}));
    assert_eq!(
        named("diets")["schema"],
        json!({"type": "array", "items": {"$ref": "#/components/schemas/zoo.v1.Diet"}})
    );
}

#[test]
fn bodies_leave_out_what_the_path_captured() {
    let document = document(&zoo());
    let put = &document["paths"]["/v1/animals/{name}"]["put"];
    let body = &put["requestBody"]["content"]["application/json"];
    let animal = body["schema"]["properties"]["animal"]["properties"].as_object().unwrap();
    assert!(!animal.contains_key("name") && animal.contains_key("weight"));
    assert!(body["example"]["animal"].get("name").is_none());
    assert!(put["parameters"].as_array().unwrap().iter().all(|parameter| parameter["in"] == "path"));
    let answer = &document["paths"]["/v1/animals/{name}"]["patch"]["responses"]["200"]["content"];
    assert_eq!(
        answer["application/json"]["schema"]["anyOf"][0]["$ref"],
        "#/components/schemas/zoo.v1.Animal"
    );
}

#[test]
fn streams_and_raw_content_have_their_media_types() {
    let document = document(&zoo());
    let content = |path: &str, verb: &str, part: &str| {
        let operation = &document["paths"][path][verb];
        let holder =
            if part == "request" { &operation["requestBody"] } else { &operation["responses"]["200"] };
        holder["content"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    let streamed = ["text/event-stream", "application/x-ndjson", "application/json"];
    assert_eq!(content("/v1/animals:watch", "get", "response"), streamed);
    assert_eq!(content("/v1/animals:import", "post", "request"), ["application/x-ndjson"]);
    assert_eq!(content("/v1/animals/{name}/picture", "post", "request"), ["*/*"]);
    assert_eq!(content("/v1/animals/{name}/picture", "post", "response"), ["*/*"]);
    let parameters = &document["paths"]["/v1/animals/{name}/picture"]["post"]["parameters"];
    assert_eq!(parameters[1]["name"], "replace");
}

#[test]
fn operations_say_who_may_call_and_what_can_go_wrong() {
    let document = document(&zoo());
    let operation = |path: &str, verb: &str| document["paths"][path][verb].clone();
    assert_eq!(operation("/v1/animals:echo", "post")["security"], json!([{}, {"bearer": []}]));
    let update = operation("/v1/animals/{name}", "patch");
    assert_eq!(update["security"], json!([{"bearer": ["zoo", "zoo.write"]}]));
    assert_eq!(update["x-access"]["scopes"], json!(["zoo", "zoo.write"]));
    assert_eq!(update["deprecated"], true);
    assert_eq!(
        operation("/v1/animals:watch", "get")["security"],
        json!([{"bearer": []}, {"queryToken": []}])
    );
    assert_eq!(operation("/v1/paths/{name}", "delete")["security"], json!([{"service": []}]));
    let responses =
        |operation: &Value| operation["responses"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(responses(&update), ["200", "400", "401", "415", "default"]);
    assert_eq!(responses(&operation("/v1/paths/{name}", "delete")), ["200", "400", "401", "default"]);
}

#[test]
fn required_fields_of_proto2_are_required() {
    let source = r#"syntax = "proto2"; package old; import "google/api/annotations.proto";
        service S { rpc M(In) returns (In) { option (google.api.http) = {post: "/m" body: "*"}; }
                    rpc Q(In) returns (In) { option (google.api.http) = {get: "/m"}; } }
        message In { required string a = 1; optional Sub b = 2; extensions 100 to 200; }
        message Sub { required int32 c = 1; }"#;
    let contract = Contract::from_sources(&BTreeMap::from([("old.proto", source)])).unwrap();
    let document = contract.openapi(&INFO, |_| true);
    let schema = &document["components"]["schemas"]["old.In"];
    assert_eq!(schema["required"], json!(["a"]));
    assert!(schema["patternProperties"].is_object());
    let query = &document["paths"]["/m"]["get"]["parameters"];
    assert_eq!((&query[0]["required"], query[1].get("required")), (&json!(true), None));
}

#[test]
fn chains_of_messages_are_followed_to_their_end_and_wide_ones_stay_small() {
    let chain = (0..3000).map(|n| format!("message C{n} {{ C{} next = 1; }}\n", (n + 1) % 3000));
    let wide = (0..8).map(|n| {
        let fields = (1..21).map(|field| format!("W{} f{field} = {field};", n + 1));
        format!("message W{n} {{ {} }}\n", fields.collect::<String>())
    });
    let source = format!(
        "syntax = \"proto3\"; package t; import \"google/api/annotations.proto\";
         service S {{ rpc C(C0) returns (C0) {{ option (google.api.http) = {{post: \"/c\" body: \"*\"}}; }}
                     rpc W(W0) returns (W0) {{ option (google.api.http) = {{get: \"/w\"}}; }} }}
         message W8 {{ string a = 1; string b = 2; }}\n{}{}",
        chain.collect::<String>(),
        wide.collect::<String>()
    );
    let contract = Contract::from_sources(&BTreeMap::from([("t.proto", source)])).unwrap();
    let document = contract.openapi(&INFO, |_| true);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    assert!(schemas.contains_key("t.C2999") && schemas.contains_key("t.W8"));
    assert!(schemas.values().all(serde_json::Value::is_object));
    assert!(document["paths"].to_string().len() < 10_000, "{}", document["paths"].to_string().len());
}

#[test]
fn a_contract_of_five_hundred_methods_has_as_many_operations() {
    let methods = (0..500).map(|n| {
        format!("// Does {n}.\nrpc M{n}(In{n}) returns (In{n}) {{ option (google.api.http) = {{post: \"/v1/m{n}/{{id}}\" body: \"*\"}}; }}\n")
    });
    let messages = (0..500).map(|n| {
        format!("// Holds {n}.\nmessage In{n} {{ string id = 1; repeated int64 values = 2; oneof x {{ string a = 3; In0 b = 4; }} }}\n")
    });
    let source = format!(
        "syntax = \"proto3\"; package big; import \"google/api/annotations.proto\";\nservice S {{\n{}}}\n{}",
        methods.collect::<String>(),
        messages.collect::<String>()
    );
    let contract = Contract::from_sources(&BTreeMap::from([("big.proto", source)])).unwrap();
    let started = std::time::Instant::now();
    let document = contract.openapi(&INFO, |_| true);
    println!("{} bytes in {:?}", document.to_string().len(), started.elapsed());
    assert_eq!(document["paths"].as_object().unwrap().len(), 500);
}
