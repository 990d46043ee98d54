//! The admin listener: metrics, upstream states, reload, and the development issuer when it was asked for.

use crate::{config::Protocol, edge::metrics::Metrics, reload::Reloader, run};
use axum::{
    Json, Router,
    extract::{Request, State as Extract},
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{fmt::Write, sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// What the handlers use.
#[derive(Clone)]
pub(crate) struct State {
    reloader: Arc<Reloader>,
    metrics: Arc<Metrics>,
    dev_issuer: bool,
}

impl State {
    pub(crate) fn new(reloader: Arc<Reloader>, metrics: Arc<Metrics>, dev_issuer: bool) -> Self {
        Self { reloader, metrics, dev_issuer }
    }
}

/// Serves until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, state: State) {
    if let Err(error) = axum::serve(listener, app(state)).await {
        tracing::error!(%error, "the admin listener ended");
    }
}

fn app(state: State) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/metrics", get(metrics))
        .route("/upstreams", get(upstreams))
        .route("/reload", post(reload));
    if state.dev_issuer {
        router = router.route("/dev/token", post(token));
    }
    router.layer(from_fn(no_browsers)).with_state(state)
}

/// A page in somebody's browser must not reach this listener: browsers say where a POST comes from.
async fn no_browsers(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "the admin listener is not for browsers\n").into_response();
    }
    next.run(request).await
}

async fn metrics(Extract(state): Extract<State>) -> impl IntoResponse {
    let mut text = state.metrics.render();
    state.reloader.lasting().channels.render(&mut text);
    let snapshot = state.reloader.snapshot();
    text.push_str("# HELP gateway_upstream_up Whether the last health check succeeded.\n# TYPE gateway_upstream_up gauge\n");
    for upstream in snapshot.upstreams.iter() {
        let up = u8::from(upstream.state.read().0 == crate::upstream::health::Health::Up);
        let _ = writeln!(text, "gateway_upstream_up{{upstream=\"{}\"}} {up}", upstream.name);
    }
    text.push_str("# HELP gateway_upstream_idle_connections Unused connections.\n# TYPE gateway_upstream_idle_connections gauge\n");
    for upstream in snapshot.upstreams.iter() {
        if let Some(pool) = &upstream.http {
            let _ = writeln!(
                text,
                "gateway_upstream_idle_connections{{upstream=\"{}\"}} {}",
                upstream.name,
                pool.usage().0
            );
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

#[derive(Serialize)]
struct UpstreamState {
    name: String,
    protocol: &'static str,
    address: String,
    state: crate::upstream::health::Health,
    for_seconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

async fn upstreams(Extract(state): Extract<State>) -> Json<Vec<UpstreamState>> {
    let snapshot = state.reloader.snapshot();
    let states = snapshot.upstreams.iter().map(|upstream| {
        let (health, since, error) = upstream.state.read();
        UpstreamState {
            name: upstream.name.clone(),
            protocol: if upstream.config.protocol == Protocol::Http { "http" } else { "grpc" },
            address: upstream.config.address.clone(),
            state: health,
            for_seconds: since.as_secs(),
            error,
        }
    });
    Json(states.collect())
}

async fn reload(Extract(state): Extract<State>) -> Response {
    match state.reloader.reload().await {
        Ok(ignored) => Json(json!({"reloaded": true, "at_next_start": ignored})).into_response(),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"reloaded": false, "error": error})))
            .into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    sub: String,
    #[serde(default)]
    scope: String,
    ttl_seconds: Option<u64>,
}

async fn token(Extract(state): Extract<State>, Json(wanted): Json<TokenRequest>) -> Response {
    let ttl = Duration::from_secs(wanted.ttl_seconds.unwrap_or(3600).clamp(1, 86_400));
    let issued = run::dev_issuer(&state.reloader)
        .and_then(|issuer| issuer.token(&wanted.sub, &wanted.scope, ttl).ok());
    match issued {
        Some(token) => Json(json!({"token": token})).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
