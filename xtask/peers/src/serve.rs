//! A gateway by hand: axum, generated JSON, tonic's client, and the middleware that a public API needs: tokens verified
//! once and remembered, scopes, ids, a deadline, a bound on requests in flight, and counters.

use std::{
    collections::HashMap,
    env,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Deserialize;
use tonic::{client::Grpc, codegen::http::uri::PathAndQuery, metadata::MetadataMap, transport::Channel};
use tonic_prost::ProstCodec;

use crate::typed::Order;

const BUDGET: Duration = Duration::from_secs(30);
const MOST_IN_FLIGHT: usize = 10_000;

struct Shared {
    channel: Channel,
    key: jsonwebtoken::DecodingKey,
    /// Tokens that were verified, with the moment until which that holds.
    verified: Mutex<HashMap<String, Instant>>,
    identity: HeaderValue,
    ids: AtomicU64,
    in_flight: AtomicUsize,
    requests: AtomicU64,
}

#[derive(Deserialize)]
struct Claims {
    scope: String,
}

/// Serves until killed; says the port it listens on.
pub(crate) fn run(upstream: &str) -> Result<()> {
    let secret = env::var("SECRET").context("SECRET")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shared = Arc::new(Shared {
            channel: Channel::from_shared(format!("http://{upstream}"))?.connect().await?,
            key: jsonwebtoken::DecodingKey::from_secret(secret.as_bytes()),
            verified: Mutex::default(),
            // A minted identity is reused; here it never ends.
            identity: HeaderValue::from_str(&"x".repeat(300))?,
            ids: AtomicU64::new(1),
            in_flight: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
        });
        let app = Router::new()
            .route("/v1/bench:echo", post(echo))
            .layer(DefaultBodyLimit::max(8 << 20))
            .layer(from_fn_with_state(shared.clone(), admit))
            .with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", serde_json::json!({"port": listener.local_addr()?.port()}));
        axum::serve(axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true))), app)
            .await?;
        Ok(())
    })
}

/// Who calls, whether they may, and how long it may take.
async fn admit(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(token) = token.and_then(|value| value.strip_prefix("Bearer ")) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    if let Err(status) = verify(&shared, token, started) {
        return status.into_response();
    }
    if shared.in_flight.fetch_add(1, Relaxed) >= MOST_IN_FLIGHT {
        shared.in_flight.fetch_sub(1, Relaxed);
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let id = shared.ids.fetch_add(1, Relaxed);
    let request_id = HeaderValue::try_from(format!("{id:032x}")).expect("hexadecimal");
    let traceparent = HeaderValue::try_from(format!("00-{id:032x}-{id:016x}-00")).expect("hexadecimal");
    request.headers_mut().insert("x-request-id", request_id.clone());
    request.headers_mut().insert("traceparent", traceparent);
    let answer = tokio::time::timeout(BUDGET, next.run(request)).await;
    shared.in_flight.fetch_sub(1, Relaxed);
    shared.requests.fetch_add(1, Relaxed);
    let mut response = answer.unwrap_or_else(|_| StatusCode::GATEWAY_TIMEOUT.into_response());
    response.headers_mut().insert("x-request-id", request_id);
    let timing = format!("gateway;dur={:.3}", started.elapsed().as_secs_f64() * 1000.0);
    response.headers_mut().insert("server-timing", HeaderValue::try_from(timing).expect("text"));
    response
}

fn verify(shared: &Shared, token: &str, now: Instant) -> Result<(), StatusCode> {
    let mut verified = shared.verified.lock().unwrap_or_else(PoisonError::into_inner);
    if verified.get(token).is_some_and(|until| *until > now) {
        return Ok(());
    }
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
    validation.set_audience(&["hybrid"]);
    let claims = jsonwebtoken::decode::<Claims>(token, &shared.key, &validation);
    let claims = claims.map_err(|_| StatusCode::UNAUTHORIZED)?.claims;
    if !claims.scope.split(' ').any(|scope| scope == "notes") {
        return Err(StatusCode::FORBIDDEN);
    }
    verified.insert(token.to_owned(), now + Duration::from_secs(60));
    Ok(())
}

async fn echo(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let order: Order = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let mut metadata = HeaderMap::with_capacity(8);
    for name in ["x-request-id", "traceparent"] {
        if let Some(value) = headers.get(name) {
            metadata.insert(name, value.clone());
        }
    }
    metadata.insert("x-hybrid-identity", shared.identity.clone());
    metadata.insert("grpc-timeout", HeaderValue::from_static("29999m"));
    let request =
        tonic::Request::from_parts(MetadataMap::from_headers(metadata), tonic::Extensions::default(), order);
    let mut client = Grpc::new(shared.channel.clone());
    if client.ready().await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let path = PathAndQuery::from_static("/bench.Bench/Echo");
    let codec = ProstCodec::<Order, Order>::default();
    match client.unary(request, path, codec).await {
        Ok(answer) => {
            let json = serde_json::to_vec(answer.get_ref()).unwrap_or_default();
            ([(header::CONTENT_TYPE, "application/json")], json).into_response()
        }
        Err(status) => (StatusCode::BAD_GATEWAY, status.message().to_owned()).into_response(),
    }
}
