//! Readers of streams: such as take what comes, such as never read, and one that asks for short streams over and over.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::helper::{Figures, Target};

/// Small, so that a reader that stalls is noticed at once and not after megabytes.
const STALLED_BUFFER: usize = 8 << 10;

/// Reads `streams` streams for `seconds`; how many times `marker` came.
pub(super) async fn count(
    target: &Target,
    accept: &str,
    marker: &str,
    streams: usize,
    seconds: f64,
) -> Result<f64> {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        let (target, accept, marker) = (target.clone(), accept.to_owned(), marker.as_bytes().to_owned());
        tasks.spawn(async move {
            let mut stream = open(&target, &accept, None).await?;
            let (mut count, mut buffer) = (0, Vec::with_capacity(64 << 10));
            while Instant::now() < until {
                let left = until.saturating_duration_since(Instant::now());
                match tokio::time::timeout(left, stream.read_buf(&mut buffer)).await {
                    Err(_) => break,
                    Ok(read) => ensure!(read? > 0, "the stream ended"),
                }
                count += memchr::memmem::find_iter(&buffer, &marker).count();
                // A marker may lie across two reads.
                let keep = buffer.len().min(marker.len() - 1);
                buffer.drain(..buffer.len() - keep);
            }
            Ok(count)
        });
    }
    let mut total = 0;
    while let Some(count) = tasks.join_next().await {
        total += count??;
    }
    Ok(total as f64)
}

/// Opens streams and never reads them.
pub(super) async fn stall(target: &Target, connections: usize) -> Result<Vec<TcpStream>> {
    let mut open_streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        open_streams.push(open(target, "text/event-stream", Some(STALLED_BUFFER)).await?);
    }
    Ok(open_streams)
}

/// Asks for a short stream and reads it to its end, over and over on one connection.
pub(super) async fn probe(target: &Target, seconds: f64) -> Result<Figures> {
    let started = Instant::now();
    let mut stream = connect(target, None).await?;
    let (mut latencies, mut buffer) = (Vec::new(), Vec::with_capacity(64 << 10));
    while started.elapsed().as_secs_f64() < seconds {
        let sent = Instant::now();
        stream.write_all(head(target, "text/event-stream").as_bytes()).await?;
        buffer.clear();
        while !buffer.ends_with(b"\r\n0\r\n\r\n") {
            if stream.read_buf(&mut buffer).await? == 0 {
                bail!("the connection ended: {}", String::from_utf8_lossy(&buffer));
            }
        }
        ensure!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer));
        latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Figures::from_latencies(latencies, started.elapsed().as_secs_f64())
}

async fn connect(target: &Target, buffer: Option<usize>) -> Result<TcpStream> {
    let address: std::net::SocketAddr = target.address.parse()?;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(buffer) = buffer {
        socket.set_recv_buffer_size(buffer)?;
    }
    socket.connect(&address.into())?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    Ok(TcpStream::from_std(socket.into())?)
}

fn head(target: &Target, accept: &str) -> String {
    format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\naccept: {accept}\r\n\r\n",
        target.path, target.address, target.token
    )
}

/// A stream whose response has begun well.
async fn open(target: &Target, accept: &str, buffer: Option<usize>) -> Result<TcpStream> {
    let mut stream = connect(target, buffer).await?;
    stream.write_all(head(target, accept).as_bytes()).await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    ensure!(&status == b"HTTP/1.1 200", "{}", String::from_utf8_lossy(&status));
    Ok(stream)
}
