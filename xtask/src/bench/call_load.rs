//! Calls of one method, over and over: as JSON over HTTP/1.1 or HTTP/2, or as native gRPC.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, task::JoinSet};

use super::helper::{Figures, Target};

/// How a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Form {
    Json1,
    Json2,
    Grpc,
}

/// Calls that are kept under way; over HTTP/2 eight share a connection.
const CONCURRENCY: usize = 64;
const SHARED: usize = 8;

/// The order that is sent and comes back: 293 bytes of JSON.
const JSON: &str = r#"{"id":"ord-2026-000417","customer":"c-88121","placedAtMs":"1767323045123","state":"STATE_PUBLISHED","lines":[{"product":"espresso-machine","quantity":1,"price":349.5},{"product":"descaler","quantity":3,"price":7.25}],"note":"Leave the parcel with the neighbours if nobody answers the door, please"}"#;

enum Client {
    One(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Two(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

impl Client {
    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::One(client) => client.send_request(request).await,
            Self::Two(client) => client.send_request(request).await,
        }
    }
}

/// Keeps the calls under way for `seconds`.
pub(super) async fn drive(target: &Target, form: Form, seconds: f64) -> Result<Figures> {
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(seconds);
    let mut tasks = JoinSet::new();
    let mut shared = None;
    for index in 0..CONCURRENCY {
        let stream = |target: &Target| TcpStream::connect(target.address.clone());
        let client = if form == Form::Json1 {
            let stream = stream(target).await?;
            stream.set_nodelay(true)?;
            let (client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Client::One(client)
        } else {
            if index % SHARED == 0 {
                let stream = stream(target).await?;
                stream.set_nodelay(true)?;
                let (client, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                shared = Some(client);
            }
            Client::Two(shared.clone().expect("one is made for the first call"))
        };
        tasks.spawn(calls(client, target.clone(), form, until));
    }
    let mut latencies = Vec::new();
    while let Some(result) = tasks.join_next().await {
        latencies.extend(result??);
    }
    Figures::from_latencies(latencies, started.elapsed().as_secs_f64())
}

async fn calls(mut client: Client, target: Target, form: Form, until: Instant) -> Result<Vec<u32>> {
    let body = if form == Form::Grpc { order() } else { Bytes::from_static(JSON.as_bytes()) };
    let content_type = if form == Form::Grpc { "application/grpc" } else { "application/json" };
    let uri = match form {
        Form::Json1 => target.path.clone(),
        _ => format!("http://{}{}", target.address, target.path),
    };
    let authorization = format!("Bearer {}", target.token);
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let mut request =
            Request::post(&uri).header("authorization", &authorization).header("content-type", content_type);
        match form {
            Form::Json1 => request = request.header("host", &target.address),
            Form::Json2 => {}
            Form::Grpc => request = request.header("te", "trailers"),
        }
        let sent = Instant::now();
        let response = client.send(request.body(Full::new(body.clone()))?).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?;
        let grpc_status = answer.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
        let answer = answer.to_bytes();
        latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(&answer));
        ensure!(answer.len() > 150, "an answer of {} bytes", answer.len());
        ensure!(form != Form::Grpc || grpc_status.is_some_and(|status| status == "0"), "no success");
    }
    Ok(latencies)
}

/// The same order as a message in its frame.
fn order() -> Bytes {
    let mut message = Vec::new();
    for (number, text) in [(1, "ord-2026-000417"), (2, "c-88121")] {
        prost::encoding::string::encode(number, &text.to_owned(), &mut message);
    }
    prost::encoding::int64::encode(3, &1_767_323_045_123, &mut message);
    prost::encoding::int32::encode(4, &2, &mut message);
    for (product, quantity, price) in [("espresso-machine", 1, 349.5), ("descaler", 3, 7.25)] {
        let mut line = Vec::new();
        prost::encoding::string::encode(1, &product.to_owned(), &mut line);
        prost::encoding::int32::encode(2, &quantity, &mut line);
        prost::encoding::double::encode(3, &price, &mut line);
        prost::encoding::bytes::encode(5, &line, &mut message);
    }
    let note = "Leave the parcel with the neighbours if nobody answers the door, please".to_owned();
    prost::encoding::string::encode(7, &note, &mut message);
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).expect("a short message").to_be_bytes());
    frame.extend(message);
    frame.into()
}

/// Calls with pauses between them for four seconds; after two of them the gateway is told to reload.
pub(super) async fn around_reload(target: &Target, admin: &str) -> Result<super::reload::Around> {
    const CALLERS: usize = 16;
    let started = Instant::now();
    let (warm, reload_at, end) = (0.5, 2.5, 4.0);
    let mut tasks = JoinSet::new();
    for _ in 0..CALLERS {
        let target = target.clone();
        tasks.spawn(async move {
            let stream = TcpStream::connect(target.address.clone()).await?;
            stream.set_nodelay(true)?;
            let (mut client, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let mut calls = vec![];
            while started.elapsed().as_secs_f64() < end {
                let at = started.elapsed().as_secs_f64();
                let sent = Instant::now();
                let request = Request::post(&target.path)
                    .header("host", &target.address)
                    .header("authorization", format!("Bearer {}", target.token))
                    .header("content-type", "application/json")
                    .body(Full::new(Bytes::from_static(JSON.as_bytes())))?;
                let response = client.send_request(request).await?;
                let ok = response.status() == 200;
                response.into_body().collect().await?;
                calls.push((at, sent.elapsed().as_secs_f64() * 1000.0, ok));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            anyhow::Ok(calls)
        });
    }
    tokio::time::sleep(Duration::from_secs_f64(reload_at)).await;
    let (began, sent) = (started.elapsed().as_secs_f64(), Instant::now());
    let stream = TcpStream::connect(admin).await?;
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post("/reload").header("host", admin).body(Full::new(Bytes::new()))?;
    let status = client.send_request(request).await?.status();
    ensure!(status.is_success(), "the reload was answered with {status}");
    let reload = sent.elapsed().as_secs_f64() * 1000.0;
    let mut calls = vec![];
    while let Some(result) = tasks.join_next().await {
        calls.extend(result??);
    }
    let p99 = |from: f64, to: f64| {
        let mut times: Vec<f64> = calls.iter().filter(|c| c.0 >= from && c.0 < to).map(|c| c.1).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() * 99 / 100).copied().unwrap_or(f64::INFINITY)
    };
    Ok(super::reload::Around {
        before: p99(warm, began),
        during: p99(began, began + 1.0),
        reload,
        failed: calls.iter().filter(|call| !call.2).count(),
        calls: calls.len(),
    })
}
