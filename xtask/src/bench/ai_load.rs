//! Calls Embed over and over: as JSON over HTTP/1.1 (through the gateway) or over gRPC (straight to Python).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, header::HeaderMap};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, task::JoinSet};

use super::helper::Figures;

/// 13 tokens for the model, its two marks included.
pub(super) const TEXT: &str = "the quick brown fox jumps over the lazy dog this morning";

/// How Embed is called.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Call {
    /// The gateway's public address, with a user's token.
    Json { address: String, token: String },
    /// The service's address, with an identity as the gateway mints it.
    Grpc { address: String, identity: String },
}

/// Keeps `concurrency` calls under way for `seconds`.
pub(super) async fn drive(call: &Call, concurrency: usize, seconds: f64) -> Result<Figures> {
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(seconds);
    let mut tasks = JoinSet::new();
    match call {
        Call::Json { address, token } => {
            for _ in 0..concurrency {
                tasks.spawn(json(address.clone(), token.clone(), until));
            }
        }
        Call::Grpc { address, identity } => {
            let client = connect_grpc(address).await?;
            for _ in 0..concurrency {
                tasks.spawn(grpc(client.clone(), address.clone(), identity.clone(), until));
            }
        }
    }
    let mut latencies = Vec::new();
    while let Some(result) = tasks.join_next().await {
        latencies.extend(result??);
    }
    Figures::from_latencies(latencies, started.elapsed().as_secs_f64())
}

async fn json(address: String, token: String, until: Instant) -> Result<Vec<u32>> {
    let stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let body = Bytes::from(serde_json::json!({"texts": [TEXT]}).to_string());
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let request = Request::post("/v1/text:embed")
            .header("host", &address)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Full::new(body.clone()))?;
        let sent = Instant::now();
        let response = client.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        latencies.push(micros(sent));
        ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&body));
        ensure!(body.len() > 384, "no embedding in {} bytes", body.len());
    }
    Ok(latencies)
}

type GrpcClient = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn connect_grpc(address: &str) -> Result<GrpcClient> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn grpc(mut client: GrpcClient, address: String, identity: String, until: Instant) -> Result<Vec<u32>> {
    let message = embed_request(TEXT);
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let request = Request::post(format!("http://{address}/hybrid.ai.v1.TextService/Embed"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-hybrid-identity", &identity)
            .body(Full::new(message.clone()))?;
        let sent = Instant::now();
        let response = client.send_request(request).await?;
        let headers = response.headers().clone();
        let collected = response.into_body().collect().await?;
        let trailers = collected.trailers().cloned().unwrap_or(headers);
        let body = collected.to_bytes();
        latencies.push(micros(sent));
        succeeded(&trailers)?;
        ensure!(body.len() > 384 * 4, "no embedding in {} bytes", body.len());
    }
    Ok(latencies)
}

fn succeeded(trailers: &HeaderMap) -> Result<()> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status").context("no grpc-status")? {
        "0" => Ok(()),
        status => bail!("gRPC status {status}: {}", text("grpc-message").unwrap_or_default()),
    }
}

/// `EmbedRequest{texts: [text]}` with gRPC's five-byte prefix; field 1, length-delimited.
fn embed_request(text: &str) -> Bytes {
    let length = u8::try_from(text.len()).expect("a short text");
    assert!(length < 126, "lengths from 128 take two bytes");
    let mut message = vec![0, 0, 0, 0, length + 2, 0x0a, length];
    message.extend(text.as_bytes());
    message.into()
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_message_is_framed() {
        assert_eq!(&embed_request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
    }
}
