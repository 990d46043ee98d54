//! The web plane's proxy: what reaches an upstream, and what comes back.

use crate::support::{Edge, WEB_SECRET, echo, get, get_as, send, token};
use http::Request;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

fn identity(answer: &crate::support::Answer) -> Value {
    let token = answer.json()["headers"]["x-hybrid-identity"].as_str().unwrap().to_owned();
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&["web"]);
    validation.set_issuer(&["hybrid-gateway"]);
    jsonwebtoken::decode::<Value>(token, &DecodingKey::from_secret(WEB_SECRET.as_bytes()), &validation)
        .unwrap()
        .claims
}

#[tokio::test]
async fn headers_of_one_hop_stay_there_and_ours_are_written_anew() {
    let upstream = echo().await;
    let edge = Edge::start(upstream.at, "").await;
    let request = Request::post("/open/x?y=1")
        .header("connection", "keep-alive, x-private")
        .header("x-private", "1")
        .header("te", "trailers")
        .header("proxy-authorization", "secret")
        .header("x-hybrid-identity", "forged")
        .header("x-hybrid-on-behalf-of", "forged")
        .header("x-forwarded-for", "6.6.6.6")
        .header("forwarded", "for=6.6.6.6")
        .header("x-request-id", "order-7")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .header("x-kept", "1");
    let answer = send(edge.at.public, request, "hello").await;
    let (seen, host) = (answer.json(), edge.at.public.to_string());
    assert_eq!(
        (&seen["method"], &seen["target"], &seen["body"]),
        (&json!("POST"), &json!("/open/x?y=1"), &json!("hello"))
    );
    let headers = &seen["headers"];
    for gone in ["connection", "x-private", "te", "proxy-authorization", "x-hybrid-on-behalf-of"] {
        assert_eq!(headers[gone], Value::Null, "{gone}");
    }
    assert_eq!((&headers["x-kept"], &headers["host"]), (&json!("1"), &json!(host)));
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(headers["forwarded"], format!("for=127.0.0.1;host=\"{host}\";proto=http"));
    assert_eq!(headers["x-request-id"], "order-7");
    assert_eq!(headers["request-timeout"], "30");
    let trace = headers["traceparent"].as_str().unwrap();
    assert!(trace.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && !trace.contains("00f067aa0ba902b7"));
    assert_eq!(identity(&answer)["kind"], "anonymous");
    assert_eq!(answer.headers["x-request-id"], "order-7");
    for gone in ["x-hop", "x-hybrid-inner"] {
        assert!(!answer.headers.contains_key(gone), "{gone}");
    }
    let timing = answer.headers["server-timing"].to_str().unwrap();
    assert!(
        timing.starts_with("gateway;dur=")
            && timing.contains(", upstream;dur=")
            && timing.ends_with(", db;dur=1"),
        "{timing}"
    );
}

#[tokio::test]
async fn the_upstream_learns_who_calls_and_not_the_token() {
    let upstream = echo().await;
    let edge = Edge::start(upstream.at, "").await;
    let alice = token("alice", "notes text.embed");
    let answer = get_as(edge.at.public, "/mine", &alice).await;
    let claims = identity(&answer);
    assert_eq!(
        (&claims["sub"], &claims["kind"], &claims["scope"]),
        (&json!("alice"), &json!("user"), &json!("notes text.embed"))
    );
    assert!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap() <= 60);
    assert_eq!(answer.json()["headers"]["authorization"], Value::Null);
    let query = get(edge.at.public, &format!("/mine?a=1&access_token={alice}&b=2")).await;
    assert_eq!(
        (&query.json()["target"], &identity(&query)["sub"]),
        (&json!("/mine?a=1&b=2"), &json!("alice"))
    );
    // A route without `query_token` takes none, and passes the query on as it is.
    let open = get(edge.at.public, "/open?access_token=x").await;
    assert_eq!(open.json()["target"], "/open?access_token=x");
}

#[tokio::test]
async fn a_clients_deadline_reaches_the_upstream() {
    let upstream = echo().await;
    let edge = Edge::start(upstream.at, "").await;
    let answer = send(edge.at.public, Request::get("/open").header("request-timeout", "5"), "").await;
    let left: f64 = answer.json()["headers"]["request-timeout"].as_str().unwrap().parse().unwrap();
    assert!(left > 4.0 && left <= 5.0, "{left}");
}

#[tokio::test]
async fn http_2_clients_reach_http_1_upstreams() {
    let upstream = echo().await;
    let edge = Edge::start(upstream.at, "").await;
    let stream = tokio::net::TcpStream::connect(edge.at.public).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut client, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let url = format!("http://{}/open/h2", edge.at.public);
    let body = http_body_util::Full::new(bytes::Bytes::from("over h2"));
    let request = Request::post(url).header("cookie", "a=1").header("cookie", "b=2").body(body).unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let seen: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(seen["headers"]["cookie"], "a=1; b=2");
    assert_eq!((&seen["body"], &seen["target"]), (&json!("over h2"), &json!("/open/h2")));
    assert_eq!(seen["headers"]["host"], edge.at.public.to_string());
}

#[tokio::test]
async fn values_with_blanks_around_them_are_not_forwarded_from_http_2() {
    let upstream = echo().await;
    let edge = Edge::start(upstream.at, "").await;
    let stream = tokio::net::TcpStream::connect(edge.at.public).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut client, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    for (value, status) in [("a b", 200), (" a", 400), ("a\t", 400), ("", 200)] {
        let url = format!("http://{}/open", edge.at.public);
        let body = http_body_util::Empty::<bytes::Bytes>::new();
        let request = Request::get(url).header("x-odd", value).body(body).unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), status, "{value:?}");
    }
}

#[tokio::test]
async fn the_internal_listener_lets_only_services_in_also_for_a_user() {
    let upstream = echo().await;
    let edge = Edge::start(upstream.at, "").await;
    assert_eq!(get(edge.at.internal, "/open").await.code(), "unauthenticated");
    assert_eq!(get_as(edge.at.internal, "/open", &token("alice", "notes")).await.code(), "unauthenticated");
    assert_eq!(get(edge.at.internal, "/healthz").await.body, "ok");
    let service = service_token();
    assert_eq!(identity(&get_as(edge.at.internal, "/inner", &service).await)["sub"], "service:web");
    assert_eq!(get_as(edge.at.public, "/inner", &token("alice", "notes")).await.code(), "not_found");
    assert_eq!(get_as(edge.at.internal, "/mine", &service).await.code(), "permission_denied");

    let given = get_as(edge.at.public, "/mine", &token("alice", "notes")).await.json()["headers"]["x-hybrid-identity"].clone();
    let acting = |identity: &str| {
        Request::get("/mine")
            .header("authorization", format!("Bearer {service}"))
            .header("x-hybrid-on-behalf-of", identity)
    };
    let answer = send(edge.at.internal, acting(given.as_str().unwrap()), "").await;
    let claims = identity(&answer);
    assert_eq!(
        (&claims["sub"], &claims["kind"], &claims["act"]),
        (&json!("alice"), &json!("user"), &json!("service:web"))
    );
    assert_eq!(send(edge.at.internal, acting("forged"), "").await.code(), "unauthenticated");
}

fn service_token() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"iss": "web", "aud": "hybrid-gateway", "iat": now, "exp": now + 30});
    let key = jsonwebtoken::EncodingKey::from_secret(WEB_SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

#[tokio::test]
async fn heads_without_bodies_keep_their_length() {
    let upstream = crate::support::http(|_| async {
        http::Response::builder()
            .header("content-length", "7")
            .header("etag", "\"1\"")
            .body(crate::support::full("content"))
            .unwrap()
    })
    .await;
    let edge = Edge::start(upstream.at, "").await;
    let answer = send(edge.at.public, Request::head("/open"), "").await;
    assert_eq!(
        (&answer.headers["content-length"], answer.body.len()),
        (&http::HeaderValue::from_static("7"), 0)
    );
    let again = get(edge.at.public, "/open").await;
    assert_eq!(
        (again.body, &again.headers["etag"]),
        ("content".into(), &http::HeaderValue::from_static("\"1\""))
    );
}
