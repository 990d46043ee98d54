//! What web pages of other sites may do: nothing, over HTTP and over WebSocket alike.

use std::sync::Arc;

use anyhow::{Result, ensure};
use blackbox::{Sut, raw::Raw, runner::Group, sut::expect_problem};
use reqwest::Method;

pub(crate) fn add(group: Group) -> Group {
    group
        .test("a foreign Origin is a 403", foreign_origin)
        .test("a foreign Host is refused", foreign_host)
        .test("a WebSocket from a foreign Origin or Host is refused", foreign_socket)
        .test("the own Origin is welcome", own_origin)
        .test("cross-origin reading is off", no_cors)
}

async fn foreign_origin(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token("alice")?;
    for origin in ["https://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1:1"] {
        for path in ["/api/notes", "/v1/search?query=gateway"] {
            let response = sut.as_user(&token, Method::GET, path).header("origin", origin).send().await?;
            expect_problem(response, 403, "origin_not_allowed").await?;
        }
    }
    Ok(())
}

async fn own_origin(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token("alice")?;
    let response = sut.as_user(&token, Method::GET, "/api/notes").header("origin", sut.base()).send().await?;
    ensure!(response.status() == 200, "status {}", response.status());
    let status = handshake(&sut, &sut.address("public"), Some(&sut.base())).await?;
    ensure!(status == 101, "WebSocket from the own origin: {status}");
    Ok(())
}

async fn no_cors(sut: Arc<Sut>) -> Result<()> {
    let request = sut.request(Method::OPTIONS, "/api/notes");
    let request =
        request.header("origin", "https://app.example").header("access-control-request-method", "GET");
    let response = request.send().await?;
    ensure!(!response.headers().contains_key("access-control-allow-origin"), "{:?}", response.headers());
    Ok(())
}

async fn foreign_host(sut: Arc<Sut>) -> Result<()> {
    let address = sut.address("public");
    for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example"] {
        let request = format!("GET /v1/search?query=x HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let mut response = Raw::send(&address, &request).await?;
        let status = response.status().await?;
        ensure!([400, 403, 421].contains(&status), "host {host}: status {status}");
        response.until("host_not_allowed").await?;
    }
    Ok(())
}

async fn foreign_socket(sut: Arc<Sut>) -> Result<()> {
    let address = sut.address("public");
    let status = handshake(&sut, &address, Some("https://evil.example")).await?;
    ensure!(status == 403, "foreign origin: {status}");
    let status = handshake(&sut, "evil.example", None).await?;
    ensure!([400, 403, 421].contains(&status), "foreign host: {status}");
    Ok(())
}

/// The status of a WebSocket handshake on the collab route.
async fn handshake(sut: &Sut, host: &str, origin: Option<&str>) -> Result<u16> {
    let token = sut.token("alice")?;
    let origin = origin.map(|origin| format!("origin: {origin}\r\n")).unwrap_or_default();
    let request = format!(
        "GET /collab?access_token={token} HTTP/1.1\r\nhost: {host}\r\n{origin}connection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    Raw::send(&sut.address("public"), &request).await?.status().await
}
