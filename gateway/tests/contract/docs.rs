//! The documentation: the OpenAPI document and its page, as they are served, and how they are turned off.

use crate::lab;
use crate::support;
use crate::support::{Edge, get, nobody, parse, send};
use gateway::Options;
use http::{Request, StatusCode};
use serde_json::{Value, json};

async fn edge(more: &str) -> Edge {
    let text = format!("{}{more}", lab::config(nobody().await, ""));
    Edge::with(&text, Options::default()).await
}

async fn document(edge: &Edge) -> Value {
    let answer = get(edge.at.public, "/openapi.json").await;
    assert_eq!(
        (answer.status, &answer.headers["content-type"]),
        (StatusCode::OK, &"application/json".parse().unwrap())
    );
    answer.json()
}

fn operations(document: &Value) -> Vec<String> {
    let paths = document["paths"].as_object().unwrap();
    let named = |(path, item): (&String, &Value)| {
        item.as_object().unwrap().keys().map(|verb| format!("{verb} {path}")).collect::<Vec<_>>()
    };
    paths.iter().flat_map(named).collect()
}

#[tokio::test]
async fn the_document_lists_what_clients_can_reach_and_nothing_else() {
    let document = document(&edge("").await).await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut expected = [
        "get /v1/lab/{text}",
        "get /v1/lab:download",
        "get /v1/lab:follow",
        "get /v1/lab:mine",
        "get /v1/lab:watch",
        "get /v1/timeout/{text}:brief",
        "get /v1/timeout/{text}:patient",
        "get /v1/timeout:watch",
        "get /v1/wire/{text}",
        "post /v1/lab/{name}:store",
        "post /v1/lab/{name}:upload",
        "post /v1/lab/{text}:collect",
        "post /v1/lab:converse",
        "post /v1/lab:echo",
        "post /v1/lab:watch",
    ];
    let mut found = operations(&document);
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(document["paths"]["/v1/lab:echo"]["post"]["security"], json!([{"bearer": ["lab"]}]));
    let text = document.to_string();
    assert!(!text.contains("lab:inner") && !text.contains("lab:unruled"));
}

#[tokio::test]
async fn errors_are_documented_as_they_are_written() {
    let edge = edge("").await;
    let document = document(&edge).await;
    let problem = &document["components"]["schemas"]["Problem"];
    let answer = get(edge.at.public, "/v1/lab/x?number=many").await;
    assert_eq!(answer.code(), "invalid_argument");
    let written = answer.json();
    let documented = problem["properties"].as_object().unwrap();
    assert!(written.as_object().unwrap().keys().all(|member| documented.contains_key(member)), "{written}");
    assert!(
        problem["required"]
            .as_array()
            .unwrap()
            .iter()
            .all(|member| !written[member.as_str().unwrap()].is_null())
    );
    assert!(problem["properties"]["code"]["enum"].as_array().unwrap().contains(&written["code"]));
    let response = &document["components"]["responses"]["Problem400"]["content"];
    assert_eq!(response["application/problem+json"]["example"]["type"], written["type"]);
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let edge = edge("").await;
    for path in ["/openapi.json", "/docs", "/docs/app.js"] {
        let first = get(edge.at.public, path).await;
        assert_eq!(first.status, StatusCode::OK, "{path}");
        let tag = first.headers["etag"].to_str().unwrap();
        for known in [tag.to_owned(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let again = send(edge.at.public, Request::get(path).header("if-none-match", &known), "").await;
            assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0), "{path} {known}");
            assert_eq!(again.headers["etag"], tag);
        }
        let other = send(edge.at.public, Request::get(path).header("if-none-match", "\"other\""), "").await;
        assert_eq!((other.status, other.body), (StatusCode::OK, first.body), "{path}");
        let head = send(edge.at.public, Request::head(path), "").await;
        assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0), "{path}");
        for method in ["POST", "OPTIONS"] {
            let refused = send(edge.at.public, Request::builder().method(method).uri(path), "").await;
            assert_eq!(
                (refused.code().as_str(), &refused.headers["allow"]),
                ("method_not_allowed", &"GET, HEAD".parse().unwrap())
            );
        }
    }
}

#[tokio::test]
async fn a_reload_changes_the_document() {
    let folder = std::env::temp_dir().join(format!("gateway-docs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("gateway.toml");
    let text = lab::config(nobody().await, "");
    std::fs::write(&file, &text).unwrap();
    let edge = Edge::with(&text, Options { source: Some(file.clone()), ..Options::default() }).await;
    assert!(operations(&document(&edge).await).contains(&"post /v1/lab:echo".to_owned()));
    let before = get(edge.at.public, "/openapi.json").await.headers["etag"].clone();
    std::fs::write(&file, text.replace("\"lab.v1\" = \"ai\"", "")).unwrap();
    let reloaded = edge.gateway.reload().await;
    std::fs::remove_dir_all(&folder).unwrap();
    reloaded.unwrap();
    assert_eq!(operations(&document(&edge).await), Vec::<String>::new());
    assert_ne!(get(edge.at.public, "/openapi.json").await.headers["etag"], before);
}

#[tokio::test]
async fn the_page_and_its_files_come_from_the_gateway_alone() {
    let edge = edge("").await;
    for path in ["/docs", "/docs/"] {
        let page = get(edge.at.public, path).await;
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
        let html = String::from_utf8(page.body.to_vec()).unwrap();
        assert!(
            !html.contains("http://") && !html.contains("https://") && !html.contains("<script>"),
            "{html}"
        );
        for part in html.split(['"']).filter(|part| part.starts_with("/docs/")) {
            assert_eq!(get(edge.at.public, part).await.status, StatusCode::OK, "{part}");
        }
    }
    for module in ["app", "document", "dom", "operation", "schema", "send"] {
        let script = get(edge.at.public, &format!("/docs/{module}.js")).await;
        assert_eq!(script.headers["content-type"], "text/javascript; charset=utf-8");
        let text = String::from_utf8(script.body.to_vec()).unwrap();
        for import in text.split("from \"./").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert_eq!(
                get(edge.at.public, &format!("/docs/{import}")).await.status,
                StatusCode::OK,
                "{import}"
            );
        }
    }
    assert_eq!(get(edge.at.public, "/docs/nope.js").await.status, StatusCode::NOT_FOUND);
    assert_eq!(get(edge.at.internal, "/docs").await.status, StatusCode::NOT_FOUND);
    assert_eq!(get(edge.at.internal, "/openapi.json").await.status, StatusCode::NOT_FOUND);
    let index = String::from_utf8(get(edge.at.public, "/").await.body.to_vec()).unwrap();
    assert!(index.contains("href=\"/docs\""), "{index}");
}

#[tokio::test]
async fn documents_of_services_are_listed_with_what_their_routes_ask_for() {
    let web = support::echo().await;
    let more = format!(
        "[upstreams.web]\nprotocol = \"http\"\naddress = \"{}\"\n\
         [routes.api]\npath = \"/api\"\nupstream = \"web\"\naccess = \"authenticated\"\nscopes = [\"notes\"]\nopenapi = \"/api/openapi.json\"\n\
         [routes.inner]\npath = \"/inner\"\nupstream = \"web\"\naccess = \"internal\"\nopenapi = \"/inner/openapi.json\"\n",
        web.at
    );
    let document = document(&edge(&more).await).await;
    assert_eq!(
        document["x-documents"],
        json!([
            {"name": "contracts", "url": "/openapi.json"},
            {"name": "web", "url": "/api/openapi.json", "security": [{"bearer": ["notes"]}]}
        ])
    );
}

#[tokio::test]
async fn routes_and_the_configuration_can_take_the_pages_away() {
    for off in ["[page]\ndocs = false\n", "[page]\nenabled = false\n"] {
        let edge = edge(off).await;
        for path in ["/docs", "/docs/app.js", "/openapi.json"] {
            assert_eq!(get(edge.at.public, path).await.status, StatusCode::NOT_FOUND, "{off} {path}");
        }
        let index = get(edge.at.public, "/").await;
        assert!(!String::from_utf8(index.body.to_vec()).unwrap().contains("/docs"), "{off}");
    }
    let web = support::echo().await;
    let route = |path: &str| {
        let address = web.at;
        format!(
            "[upstreams.web]\nprotocol = \"http\"\naddress = \"{address}\"\n[routes.own]\npath = \"{path}\"\nupstream = \"web\"\naccess = \"public\"\n"
        )
    };
    let own = edge(&route("/docs")).await;
    assert_eq!(get(own.at.public, "/docs").await.json()["target"], "/docs");
    assert!(document(&own).await["paths"].is_object());
    // A route that takes everything takes what nothing else does.
    let root = edge(&route("/")).await;
    assert!(document(&root).await["paths"].is_object());
    assert_eq!(get(root.at.public, "/documents").await.json()["target"], "/documents");
}

#[test]
fn the_document_can_be_had_without_a_server() {
    let text = lab::config("127.0.0.1:1".parse().unwrap(), "");
    let public = gateway::Gateway::openapi(parse(&text), false).unwrap();
    let all = gateway::Gateway::openapi(parse(&text), true).unwrap();
    assert_eq!(operations(&all).len(), operations(&public).len() + 1);
    assert_eq!(all["paths"]["/v1/lab:inner"]["post"]["security"], json!([{"service": []}]));
}
