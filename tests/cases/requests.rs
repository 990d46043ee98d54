//! Requests that cannot be served: each is refused with its own status and a problem that says what is wrong.

use std::sync::Arc;

use anyhow::{Result, ensure};
use blackbox::{
    Sut,
    raw::Raw,
    runner::Group,
    sut::{expect_json, expect_problem},
};
use reqwest::{Method, StatusCode};
use serde_json::json;

pub(crate) fn add(group: Group) -> Group {
    group
        .test("a text is embedded", a_text_is_embedded)
        .test("invalid JSON is a 400", invalid_json)
        .test("an unknown field is a 400 that names it", unknown_field)
        .test("a wrong type is a 400 that names the field", wrong_type)
        .test("an unknown query parameter is a 400", unknown_parameter)
        .test("what the service refuses names the field too", refused_by_the_service)
        .test("an oversize body is a 413, declared or chunked", oversize_body)
        .test("oversize headers are a 431", oversize_headers)
        .test("an unknown route is a 404", unknown_route)
        .test("a wrong method is a 405 that lists the allowed", wrong_method)
        .test("an internal method is not reachable from outside", internal_method)
}

async fn a_text_is_embedded(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token("alice")?;
    let request =
        sut.as_user(&token, Method::POST, "/v1/text:embed").json(&json!({"texts": ["hello", "world"]}));
    let body = expect_json(request.send().await?, 200).await?;
    let embeddings = body["embeddings"].as_array().cloned().unwrap_or_default();
    ensure!(embeddings.len() == 2, "{} embeddings", embeddings.len());
    for embedding in embeddings {
        let values: Vec<f64> =
            embedding["values"].as_array().into_iter().flatten().filter_map(|v| v.as_f64()).collect();
        let length = values.iter().map(|v| v * v).sum::<f64>().sqrt();
        ensure!(
            values.len() == 384 && (length - 1.0).abs() < 1e-3,
            "{} values of length {length}",
            values.len()
        );
    }
    Ok(())
}

async fn embed(sut: &Sut, body: &'static str) -> Result<reqwest::Response> {
    let token = sut.token("alice")?;
    let request =
        sut.as_user(&token, Method::POST, "/v1/text:embed").header("content-type", "application/json");
    Ok(request.body(body).send().await?)
}

async fn invalid_json(sut: Arc<Sut>) -> Result<()> {
    for body in [r#"{"texts": ["#, "", "nonsense", r#"{"texts": []} trailing"#] {
        expect_problem(embed(&sut, body).await?, 400, "invalid_argument").await?;
    }
    Ok(())
}

async fn unknown_field(sut: Arc<Sut>) -> Result<()> {
    let problem =
        expect_problem(embed(&sut, r#"{"texts": ["a"], "txets": 1}"#).await?, 400, "invalid_argument")
            .await?;
    ensure!(problem["errors"][0]["field"] == "txets", "{problem}");
    Ok(())
}

async fn wrong_type(sut: Arc<Sut>) -> Result<()> {
    let problem = expect_problem(embed(&sut, r#"{"texts": [7]}"#).await?, 400, "invalid_argument").await?;
    ensure!(problem["errors"][0]["field"] == "texts[0]", "{problem}");
    let problem = expect_problem(embed(&sut, r#"{"texts": "a"}"#).await?, 400, "invalid_argument").await?;
    ensure!(problem["errors"][0]["field"] == "texts", "{problem}");
    Ok(())
}

async fn unknown_parameter(sut: Arc<Sut>) -> Result<()> {
    let response = sut.request(Method::GET, "/v1/search?query=gateway&limt=3").send().await?;
    let problem = expect_problem(response, 400, "invalid_argument").await?;
    ensure!(problem["errors"][0]["field"] == "limt", "{problem}");
    let response = sut.request(Method::GET, "/v1/search?query=gateway&limit=many").send().await?;
    let problem = expect_problem(response, 400, "invalid_argument").await?;
    ensure!(problem["errors"][0]["field"] == "limit", "{problem}");
    Ok(())
}

async fn refused_by_the_service(sut: Arc<Sut>) -> Result<()> {
    let problem =
        expect_problem(embed(&sut, r#"{"texts": ["fine", ""]}"#).await?, 400, "invalid_argument").await?;
    ensure!(problem["errors"][0]["field"] == "texts[1]", "{problem}");
    let response = sut.request(Method::GET, "/v1/search?query=").send().await?;
    let problem = expect_problem(response, 400, "invalid_argument").await?;
    ensure!(problem["errors"][0]["field"] == "query", "{problem}");
    Ok(())
}

async fn oversize_body(sut: Arc<Sut>) -> Result<()> {
    let (token, address) = (sut.token("alice")?, sut.address("public"));
    let over = (8 << 20) + 1;
    for path in ["/v1/text:embed", "/api/notes"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\n"
        );
        let mut declared = Raw::send(&address, &format!("{head}content-length: {over}\r\n\r\n{{")).await?;
        ensure!(declared.status().await? == 413, "{path}, declared: {}", declared.until("\r\n\r\n").await?);
        declared.until("body_too_large").await?;
        let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
        let request = format!("{head}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(9));
        let mut chunked = Raw::send(&address, &request).await?;
        ensure!(chunked.status().await? == 413, "{path}, chunked: {}", chunked.until("\r\n\r\n").await?);
    }
    Ok(())
}

async fn oversize_headers(sut: Arc<Sut>) -> Result<()> {
    let address = sut.address("public");
    let long = "x".repeat(64 << 10);
    let one = format!("GET /api/notes HTTP/1.1\r\nhost: {address}\r\nx-long: {long}\r\n\r\n");
    let many: String = (0..60).map(|i| format!("x-{i}: {}\r\n", "y".repeat(1000))).collect();
    let many = format!("GET /api/notes HTTP/1.1\r\nhost: {address}\r\n{many}\r\n");
    for request in [one, many] {
        let status = Raw::send(&address, &request).await?.status().await?;
        ensure!(status == 431, "status {status}");
    }
    Ok(())
}

async fn unknown_route(sut: Arc<Sut>) -> Result<()> {
    for path in ["/nowhere", "/v1/nothing", "/apis/notes", "/hybrid.ai.v1.TextService/Nothing"] {
        expect_problem(sut.request(Method::GET, path).send().await?, 404, "not_found").await?;
    }
    Ok(())
}

async fn wrong_method(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token("alice")?;
    let response = sut.as_user(&token, Method::DELETE, "/v1/search?query=x").send().await?;
    let allow = response.headers().get("allow").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    expect_problem(response, 405, "method_not_allowed").await?;
    ensure!(allow.contains("GET") && allow.contains("POST"), "Allow: {allow}");
    let response = sut.as_user(&token, Method::PATCH, "/api/notes").send().await?;
    ensure!(
        [StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_FOUND].contains(&response.status()),
        "PATCH /api/notes: {}",
        response.status()
    );
    Ok(())
}

async fn internal_method(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token("alice")?;
    let document = json!({"id": "notes/forged", "revision": 1, "text": "planted", "readers": ["*"]});
    let response = sut.as_user(&token, Method::POST, "/v1/documents").json(&document).send().await?;
    let status = response.status().as_u16();
    ensure!([403, 404].contains(&status), "status {status}: {}", response.text().await?);
    let response = sut.as_user(&token, Method::DELETE, "/v1/documents/notes/forged").send().await?;
    ensure!([403, 404].contains(&response.status().as_u16()), "DELETE: {}", response.status());
    Ok(())
}
