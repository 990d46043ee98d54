//! Fields and query parameters that no message has: refused, unless the configuration says that they are ignored.

use crate::{
    rpc::edge,
    support::{get, send},
};
use http::Request;

const CALLS: [(&str, &str, &str); 3] = [
    ("/v1/lab:watch", "application/json", r#"{"text":"t","number":1,"nope":{"a":[1]}}"#),
    ("/v1/lab/first:collect", "application/x-ndjson", "{\"nope\":1}\n{\"text\":\"b\",\"nope\":2}\n"),
    ("/lab.v1.LabService/Get", "application/json", r#"{"text":"t","nope":1}"#),
];

#[tokio::test]
async fn they_are_refused_by_name() {
    let (edge, _upstream, _seen) = edge("").await;
    for (path, content_type, body) in CALLS {
        let request = Request::post(path).header("content-type", content_type);
        let answer = send(edge.at.public, request, body).await;
        let text = String::from_utf8_lossy(&answer.body);
        assert!(answer.status.as_u16() == 400 && text.contains("\"invalid_argument\""), "{path}: {text}");
    }
    let answer = get(edge.at.public, "/v1/lab/x?nope=1").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["errors"][0]["field"]), (400, &"nope".into()));
}

#[tokio::test]
async fn they_may_be_ignored() {
    let (edge, _upstream, _seen) = edge("unknown_fields = \"ignore\"").await;
    for (path, content_type, body) in CALLS {
        let request = Request::post(path).header("content-type", content_type);
        let answer = send(edge.at.public, request, body).await;
        assert_eq!(answer.status.as_u16(), 200, "{path}: {:?}", answer.body);
        assert!(!String::from_utf8_lossy(&answer.body).contains("nope"), "{:?}", answer.body);
    }
    let answer = get(edge.at.public, "/v1/lab/x?nope=1&number=2").await;
    assert_eq!(answer.json(), serde_json::json!({"text": "x", "number": 2}));
    let wrong = get(edge.at.public, "/v1/lab/x?number=y").await;
    assert_eq!(wrong.status.as_u16(), 400, "known ones are as strict as ever");
    let document = get(edge.at.public, "/openapi.json").await.json();
    let sample = &document["components"]["schemas"]["lab.v1.Sample"];
    assert!(sample["properties"].is_object() && sample["additionalProperties"].is_null(), "{sample}");
}

#[test]
fn another_word_is_refused_with_those_that_are_allowed() {
    let text = "[contracts]\nunknown_fields = \"drop\"";
    let environment = gateway::config::Environment::new();
    let error =
        gateway::config::parse(text, std::path::Path::new("."), &environment).unwrap_err().to_string();
    assert!(error.contains("contracts.unknown_fields") && error.contains("drop"), "{error}");
    assert!(error.contains("refuse") && error.contains("ignore"), "{error}");
}
