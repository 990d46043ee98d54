//! Foreign pages and names, and who may come in.

use crate::support::{Edge, SECRET, base, echo, full, get, get_as, http, send, token};
use ::http::{Request, Response};
use gateway::Options;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused_also_for_sockets() {
    let upstream = echo().await;
    let edge = Edge::start(upstream.at, "").await;
    let to = edge.at.public;
    let host = send(to, Request::get("/open").header("host", "evil.example"), "").await;
    assert_eq!((host.status.as_u16(), host.code().as_str()), (421, "host_not_allowed"));
    let origin = send(to, Request::get("/open").header("origin", "https://evil.example"), "").await;
    assert_eq!((origin.status.as_u16(), origin.code().as_str()), (403, "origin_not_allowed"));
    let socket = Request::get("/open")
        .header("origin", "null")
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    assert_eq!(send(to, socket, "").await.code(), "origin_not_allowed");
    let own = send(to, Request::get("/open").header("origin", format!("http://{to}")), "").await;
    assert_eq!(own.status, 200);
    assert!(!own.headers.contains_key("access-control-allow-origin"));
    let internal =
        send(edge.at.internal, Request::get("/healthz").header("origin", format!("http://{to}")), "").await;
    assert_eq!(internal.code(), "origin_not_allowed");
    let admin =
        send(edge.at.admin, Request::post("/reload").header("origin", "https://evil.example"), "").await;
    assert_eq!(admin.status, 403);
}

#[tokio::test]
async fn sharing_works_for_configured_origins() {
    let upstream = echo().await;
    let edge = Edge::start(
        upstream.at,
        "[public]\norigins = [\"https://app.example\"]\n[public.cors]\nheaders = [\"authorization\"]",
    )
    .await;
    let preflight = Request::options("/mine")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "GET");
    let answer = send(edge.at.public, preflight, "").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["access-control-allow-headers"]),
        (204, &"authorization".parse().unwrap())
    );
    let refused =
        send(edge.at.public, Request::get("/mine").header("origin", "https://app.example"), "").await;
    assert_eq!(refused.code(), "unauthenticated");
    assert_eq!(
        refused.headers["access-control-allow-origin"], "https://app.example",
        "a page must be able to read the error"
    );
}

#[tokio::test]
async fn missing_forged_and_expired_identities_are_told_apart() {
    let upstream = echo().await;
    let edge = Edge::start(upstream.at, "").await;
    let to = edge.at.public;
    let missing = get(to, "/mine").await;
    assert_eq!((missing.status.as_u16(), missing.code().as_str()), (401, "unauthenticated"));
    assert_eq!(missing.headers["www-authenticate"], "Bearer");
    let claims = |exp: u64| json!({"iss": "hybrid-dev", "aud": "hybrid", "sub": "alice", "scope": "notes", "exp": exp});
    let sign = |claims, secret: &str| {
        encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    };
    let forged =
        get_as(to, "/mine", &sign(claims(u64::from(u32::MAX)), "forged-forged-forged-forged-forged")).await;
    assert_eq!((forged.status.as_u16(), forged.code().as_str()), (401, "unauthenticated"));
    let expired = get_as(to, "/mine", &sign(claims(1_000_000_000), SECRET)).await;
    assert_eq!((expired.status.as_u16(), expired.code().as_str()), (401, "token_expired"));
    let poor = get_as(to, "/mine", &token("bob", "assistant.chat")).await;
    assert_eq!((poor.status.as_u16(), poor.code().as_str()), (403, "permission_denied"));
    // A bad token is refused on a public route, too: silence would hide the mistake.
    assert_eq!(get_as(to, "/open", "nonsense").await.code(), "unauthenticated");
}

/// An Ed25519 key pair made for this test: the PKCS#8 form and the public half as a JWK's `x`.
const ED25519_PEM: &[u8] = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIEv2KGJE1ajtNp3wgN1BCANKz+siyd1MF7t3M9rUDuHZ\n-----END PRIVATE KEY-----\n";
const ED25519_X: &str = "s7CPcnhRfrgN9EBXfJt1YhiEMIslx2iUoxXuWZcdj-M";

#[tokio::test]
async fn published_keys_verify_and_stay_when_the_issuer_is_gone() {
    let keys = http(|_| async {
        let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": ED25519_X}]});
        Response::builder().header("content-type", "application/json").body(full(set.to_string())).unwrap()
    })
    .await;
    let upstream = echo().await;
    let text = base(upstream.at, "")
        .replace("[identity]", &format!("[identity]\njwks_url = \"http://{}/keys\"", keys.at));
    let edge = Edge::with(&text, Options::default()).await;
    let sign = |kid: &str, sub: &str| {
        let mut header = Header::new(jsonwebtoken::Algorithm::EdDSA);
        header.kid = Some(kid.into());
        let claims =
            json!({"iss": "hybrid-dev", "aud": "hybrid", "sub": sub, "scope": "notes", "exp": u32::MAX});
        encode(&header, &claims, &EncodingKey::from_ed_pem(ED25519_PEM).unwrap()).unwrap()
    };
    assert_eq!(get_as(edge.at.public, "/mine", &sign("k1", "alice")).await.status, 200);
    assert_eq!(get_as(edge.at.public, "/mine", &sign("k2", "alice")).await.code(), "unauthenticated");
    drop(keys);
    assert_eq!(get_as(edge.at.public, "/mine", &sign("k1", "bob")).await.status, 200);
}
