//! Drives WebSocket echo through a proxy, with raw frames: a message is a round trip.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    helper::{Figures, Target},
    upstream::WEBSOCKET_KEY,
};

const PAYLOAD: usize = 64;
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// Sends messages over `connections` tunnels for `seconds`, each waiting for its echo.
pub(super) async fn drive(target: &Target, connections: usize, seconds: f64) -> Result<Figures> {
    let tunnels = open(target, connections).await?;
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(seconds);
    let mut tasks = JoinSet::new();
    for tunnel in tunnels {
        tasks.spawn(ping_pong(tunnel, until));
    }
    let mut latencies = Vec::new();
    while let Some(result) = tasks.join_next().await {
        latencies.extend(result??);
    }
    Figures::from_latencies(latencies, started.elapsed().as_secs_f64())
}

/// Opens `connections` tunnels and proves each one with a message.
pub(super) async fn open(target: &Target, connections: usize) -> Result<Vec<TcpStream>> {
    let mut tunnels = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut tunnel = tokio::time::timeout(Duration::from_secs(10), upgrade(target))
            .await
            .with_context(|| format!("tunnel {} did not open in 10 s", tunnels.len() + 1))??;
        round_trip(&mut tunnel, &message()).await?;
        tunnels.push(tunnel);
    }
    Ok(tunnels)
}

async fn upgrade(target: &Target) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(&target.address).await.context("connect")?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {WEBSOCKET_KEY}\r\n\r\n",
        target.path, target.address, target.token
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        ensure!(stream.read(&mut byte).await? == 1, "closed: {}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    ensure!(head.starts_with(b"HTTP/1.1 101"), "no upgrade: {}", String::from_utf8_lossy(&head));
    Ok(stream)
}

async fn ping_pong(mut tunnel: TcpStream, until: Instant) -> Result<Vec<u32>> {
    let message = message();
    let mut latencies = Vec::with_capacity(1 << 14);
    let mut sent = Instant::now();
    while sent < until {
        round_trip(&mut tunnel, &message).await?;
        let now = Instant::now();
        latencies.push(u32::try_from((now - sent).as_micros()).unwrap_or(u32::MAX));
        sent = now;
    }
    Ok(latencies)
}

async fn round_trip(tunnel: &mut TcpStream, message: &[u8]) -> Result<()> {
    tunnel.write_all(message).await?;
    let mut echo = [0; 2 + PAYLOAD];
    tunnel.read_exact(&mut echo).await.context("the echo")?;
    ensure!(echo[0] == 0x82 && echo[2..] == [b'm'; PAYLOAD], "the echo differs: {echo:?}");
    Ok(())
}

/// A binary frame of 64 bytes, masked as clients must.
fn message() -> Vec<u8> {
    let mut frame = vec![0x82, 0x80 | PAYLOAD as u8];
    frame.extend(MASK);
    frame.extend((0..PAYLOAD).map(|i| b'm' ^ MASK[i % 4]));
    frame
}
