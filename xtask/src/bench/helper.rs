//! The processes that the benchmarks start for themselves, on a core of their own.
//! Their job comes as JSON in a hidden option; they answer with a line of JSON on stdout.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::channels::{backend, churn, load, session::Door};

/// A helper's job.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Spec {
    /// Serve HTTP and WebSocket echo until killed; says `{"port": …}`.
    Upstream,
    /// Drive WebSocket tunnels; says a [`Figures`].
    Tunnels { target: Target, connections: usize, seconds: f64 },
    /// Open WebSocket tunnels, say `{"open": …}`, keep them until killed.
    IdleTunnels { target: Target, connections: usize },
    /// Serve gRPC until killed; says `{"port": …}`.
    GrpcUpstream,
    /// Make unary calls; says a [`Figures`].
    Calls { target: Target, form: super::call_load::Form, seconds: f64 },
    /// Read streams; says `{"messages": …}`.
    Events { target: Target, accept: String, marker: String, streams: usize, seconds: f64 },
    /// Open event streams, say `{"open": …}`, never read them, until killed.
    Stalled { target: Target, connections: usize },
    /// Read short streams one after the other; says a [`Figures`].
    Probe { target: Target, seconds: f64 },
    /// Make calls and reload the gateway meanwhile; says an [`super::reload::Around`].
    Reload { target: Target, admin: String },
    /// Be the application on a gateway's link until killed; says its ports.
    ChannelsApp { internal: String, secret: String },
    /// Be Pushpin's backend until killed; says its ports.
    ChannelsGrip { publish: String },
    /// Publish to many receivers; says a [`load::Fanned`].
    ChannelsFan(load::Fan),
    /// Open connections of channels, say `{"open": …}`, keep them until killed.
    ChannelsIdle { door: Door, connections: usize },
    /// Lose connections one after the other and come back; says a [`churn::Jittered`].
    ChannelsJitter(churn::Jitter),
    /// Lose connections all at once and come back; says a [`churn::Stormed`].
    ChannelsStorm(churn::Storm),
    /// Call Embed; says a [`Figures`].
    Embed { call: super::ai_load::Call, concurrency: usize, seconds: f64 },
}

/// Where a load goes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Target {
    /// `host:port`.
    pub(super) address: String,
    /// The request's path.
    pub(super) path: String,
    /// The bearer token that each request carries.
    pub(super) token: String,
}

/// What a load generator counted.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Figures {
    pub(super) requests: f64,
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Figures {
    /// From each request's latency in µs.
    pub(super) fn from_latencies(mut micros: Vec<u32>, seconds: f64) -> Result<Self> {
        anyhow::ensure!(!micros.is_empty(), "no request was answered");
        micros.sort_unstable();
        let quantile = |q: f64| f64::from(micros[((micros.len() - 1) as f64 * q) as usize]) / 1000.0;
        let requests = micros.len() as f64;
        Ok(Self { requests, per_second: requests / seconds, p50_ms: quantile(0.5), p99_ms: quantile(0.99) })
    }
}

/// Runs a helper on one thread of its own.
pub(super) fn run(spec: &str) -> Result<()> {
    let spec: Spec = serde_json::from_str(spec).context("the helper's job")?;
    // A thread, because the caller may already be inside a runtime.
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(dispatch(spec))
    });
    thread.join().map_err(|_| anyhow::anyhow!("the helper panicked"))?
}

async fn dispatch(spec: Spec) -> Result<()> {
    match spec {
        Spec::Upstream => super::upstream::serve().await,
        Spec::Tunnels { target, connections, seconds } => {
            say(&super::tunnel_load::drive(&target, connections, seconds).await?)
        }
        Spec::IdleTunnels { target, connections } => {
            let tunnels = super::tunnel_load::open(&target, connections).await?;
            say(&serde_json::json!({"open": tunnels.len()}))?;
            std::future::pending().await
        }
        Spec::GrpcUpstream => super::grpc_upstream::serve().await,
        Spec::Calls { target, form, seconds } => say(&super::call_load::drive(&target, form, seconds).await?),
        Spec::Events { target, accept, marker, streams, seconds } => {
            let messages = super::stream_load::count(&target, &accept, &marker, streams, seconds).await?;
            say(&serde_json::json!({"messages": messages}))
        }
        Spec::Stalled { target, connections } => {
            let open = super::stream_load::stall(&target, connections).await?;
            say(&serde_json::json!({"open": open.len()}))?;
            std::future::pending().await
        }
        Spec::Probe { target, seconds } => say(&super::stream_load::probe(&target, seconds).await?),
        Spec::Reload { target, admin } => say(&super::call_load::around_reload(&target, &admin).await?),
        Spec::ChannelsApp { internal, secret } => backend::application(&internal, &secret).await,
        Spec::ChannelsGrip { publish } => backend::grip(&publish).await,
        Spec::ChannelsFan(job) => say(&load::fan(job).await?),
        Spec::ChannelsIdle { door, connections } => load::idle(door, connections).await,
        Spec::ChannelsJitter(job) => say(&churn::jitter(job).await?),
        Spec::ChannelsStorm(job) => say(&churn::storm(job).await?),
        Spec::Embed { call, concurrency, seconds } => {
            say(&super::ai_load::drive(&call, concurrency, seconds).await?)
        }
    }
}

/// Prints one line of JSON.
pub(super) fn say(value: &impl Serialize) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(value)?)?;
    Ok(out.flush()?)
}
