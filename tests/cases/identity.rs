//! Who may come in: missing, expired, forged and insufficient tokens, and identities that a client makes up.

use std::sync::Arc;

use anyhow::{Result, ensure};
use blackbox::{
    Sut,
    random::unique,
    runner::Group,
    sut::{expect_json, expect_problem},
    tokens,
};
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) fn add(group: Group) -> Group {
    group
        .test("without a token there is a 401 that says how to come in", missing)
        .test("an expired token is a 401 of its own", expired)
        .test("a forged token is a 401", forged)
        .test("a token for another audience or issuer is a 401", foreign_claims)
        .test("a token without the scope is a 403", missing_scope)
        .test("a bad token is refused on public methods too", bad_token_on_public)
        .test("an identity header from outside is worth nothing", spoofed)
        .test("a token in the query is refused where headers can be set", token_in_query)
}

/// A call that needs a token, on each plane.
const GUARDED: [(Method, &str); 2] = [(Method::GET, "/api/notes"), (Method::POST, "/v1/text:embed")];

async fn call(sut: &Sut, method: &Method, path: &str, token: Option<&str>) -> Result<reqwest::Response> {
    let mut request = sut.request(method.clone(), path);
    if *method == Method::POST {
        request = request.json(&json!({"texts": ["x"]}));
    }
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    Ok(request.send().await?)
}

async fn missing(sut: Arc<Sut>) -> Result<()> {
    for (method, path) in GUARDED {
        let response = call(&sut, &method, path, None).await?;
        ensure!(response.headers().contains_key("www-authenticate"), "{path}: no WWW-Authenticate");
        expect_problem(response, 401, "unauthenticated").await?;
    }
    Ok(())
}

async fn expired(sut: Arc<Sut>) -> Result<()> {
    let mut claims = tokens::claims("alice", tokens::ALL_SCOPES);
    claims["iat"] = (tokens::now() - 7200).into();
    claims["exp"] = (tokens::now() - 3600).into();
    let token = sut.token_with(&claims)?;
    for (method, path) in GUARDED {
        expect_problem(call(&sut, &method, path, Some(&token)).await?, 401, "token_expired").await?;
    }
    Ok(())
}

async fn forged(sut: Arc<Sut>) -> Result<()> {
    let claims = tokens::claims("alice", tokens::ALL_SCOPES);
    let other_key = tokens::sign("another secret, also of more than 32 bytes", &claims)?;
    let valid = sut.token("alice")?;
    let parts: Vec<&str> = valid.split('.').collect();
    // {"alg":"none"} with the valid claims; and valid claims under another token's signature.
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", parts[1]);
    let bob = sut.token("bob")?;
    let mixed = format!("{}.{}.{}", parts[0], parts[1], bob.rsplit('.').next().unwrap_or_default());
    for token in [other_key.as_str(), &unsigned, &mixed, "nonsense", ""] {
        for (method, path) in &GUARDED {
            expect_problem(call(&sut, method, path, Some(token)).await?, 401, "unauthenticated").await?;
        }
    }
    Ok(())
}

async fn foreign_claims(sut: Arc<Sut>) -> Result<()> {
    for (claim, value) in [("aud", "elsewhere"), ("iss", "somebody")] {
        let mut claims = tokens::claims("alice", tokens::ALL_SCOPES);
        claims[claim] = value.into();
        let token = sut.token_with(&claims)?;
        for (method, path) in &GUARDED {
            expect_problem(call(&sut, method, path, Some(&token)).await?, 401, "unauthenticated").await?;
        }
    }
    // A service's own secret opens nothing at the front door.
    let claims = tokens::claims("alice", tokens::ALL_SCOPES);
    let token = tokens::sign(&sut.secret("ai")?, &claims)?;
    expect_problem(call(&sut, &Method::GET, "/api/notes", Some(&token)).await?, 401, "unauthenticated")
        .await?;
    Ok(())
}

async fn missing_scope(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token_with(&tokens::claims("alice", "something.else"))?;
    for (method, path) in GUARDED {
        expect_problem(call(&sut, &method, path, Some(&token)).await?, 403, "permission_denied").await?;
    }
    Ok(())
}

async fn bad_token_on_public(sut: Arc<Sut>) -> Result<()> {
    let response = sut.as_user("nonsense", Method::GET, "/v1/search?query=gateway").send().await?;
    expect_problem(response, 401, "unauthenticated").await?;
    let response = sut.request(Method::GET, "/v1/search?query=gateway").send().await?;
    expect_json(response, 200).await?;
    Ok(())
}

/// A well-formed internal identity, signed with the target's own secret, as only a thief could make it.
fn identity(sut: &Sut, service: &str, subject: &str) -> Result<String> {
    let now = tokens::now();
    let claims = json!({"iss": "hybrid-gateway", "aud": service, "sub": subject, "kind": "user",
        "scope": tokens::ALL_SCOPES, "iat": now, "exp": now + 60});
    tokens::sign(&sut.secret(service)?, &claims)
}

async fn spoofed(sut: Arc<Sut>) -> Result<()> {
    let (victim, attacker, word) = (unique(), unique(), unique());
    let (victim_token, attacker_token) = (sut.token(&victim)?, sut.token(&attacker)?);
    let note = sut.create_note(&victim_token, "private", &word).await?;
    let path = format!("/api/notes/{}", note["id"].as_str().unwrap_or_default());
    let spoofed = identity(&sut, "realtime", &victim)?;
    let request = sut.request(Method::GET, &path).header("x-hybrid-identity", &spoofed);
    expect_problem(request.send().await?, 401, "unauthenticated").await?;
    let request = sut.as_user(&attacker_token, Method::GET, &path).header("x-hybrid-identity", &spoofed);
    ensure!(request.send().await?.status() == 404, "the victim's note was shown");
    let behalf = sut.as_user(&attacker_token, Method::GET, &path).header("x-hybrid-on-behalf-of", &spoofed);
    ensure!(behalf.send().await?.status() == 404, "the victim's note was shown on behalf");
    let (found, token) = (|| sut.search_words(&victim_token, &word), identity(&sut, "ai", &victim)?);
    blackbox::wait::eventually("the victim's own search", std::time::Duration::from_secs(5), || async {
        ensure!(!found().await?.is_empty(), "nothing found");
        Ok(())
    })
    .await?;
    let search = sut.request(Method::GET, "/v1/search").query(&[("query", &word)]);
    let body: Value = expect_json(search.header("x-hybrid-identity", token).send().await?, 200).await?;
    ensure!(!body.to_string().contains(&word), "a spoofed identity found the victim's note: {body}");
    Ok(())
}

async fn token_in_query(sut: Arc<Sut>) -> Result<()> {
    let token = sut.token("alice")?;
    let embed = sut.request(Method::POST, &format!("/v1/text:embed?access_token={token}"));
    let response = embed.json(&json!({"texts": ["x"]})).send().await?;
    ensure!(response.status().is_client_error(), "status {}", response.status());
    let feed = sut.request(Method::GET, &format!("/api/changes?access_token={token}"));
    ensure!(feed.send().await?.status() == 200, "the feed takes no token from the query");
    for name in ["gateway", "realtime", "ai"] {
        ensure!(!sut.log(name).contains(&token), "the token is in the log of {name}");
    }
    Ok(())
}
