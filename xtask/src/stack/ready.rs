//! Readiness probes: one attempt each, with a bound; the supervisor repeats them.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::manifest::Ready;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);

/// A probe whose placeholders are filled in.
#[derive(Debug, Clone)]
pub(crate) enum Probe {
    Http(String),
    Grpc(String),
    Tcp(String),
}

impl Probe {
    /// `fill` replaces placeholders.
    pub(crate) fn new(ready: &Ready, fill: impl Fn(&str) -> Result<String>) -> Result<Self> {
        match (&ready.http, &ready.grpc, &ready.tcp) {
            (Some(url), _, _) => Ok(Self::Http(fill(url)?)),
            (_, Some(address), _) => Ok(Self::Grpc(fill(address)?)),
            (_, _, Some(address)) => Ok(Self::Tcp(fill(address)?)),
            _ => bail!("ready has none of http, grpc, tcp"),
        }
    }

    /// Tries once; an error says what is not as it should be.
    pub(crate) fn attempt(&self) -> Result<()> {
        match self {
            Self::Http(url) => http(url),
            Self::Grpc(address) => grpc(address),
            Self::Tcp(address) => connect(address).map(drop),
        }
    }
}

fn connect(address: &str) -> Result<TcpStream> {
    let mut addresses =
        address.to_socket_addrs().with_context(|| format!("{address:?} is not an address"))?;
    let first = addresses.next().with_context(|| format!("{address:?} is not an address"))?;
    let stream = TcpStream::connect_timeout(&first, ATTEMPT)
        .with_context(|| format!("nothing listens on {address}"))?;
    stream.set_read_timeout(Some(ATTEMPT))?;
    Ok(stream)
}

/// A GET by hand: the probe runs on a plain thread, and needs no more than the status line.
fn http(url: &str) -> Result<()> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url:?} does not begin with http://"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = connect(host)?;
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
    let mut status = [0u8; 12];
    stream.read_exact(&mut status).with_context(|| format!("{url} closed the connection"))?;
    let status = String::from_utf8_lossy(&status);
    ensure!(status.ends_with(" 200"), "{url} answers {status}");
    Ok(())
}

fn grpc(address: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let check = async { tokio::time::timeout(ATTEMPT, crate::grpc::check_health(address)).await };
    runtime.block_on(check).with_context(|| format!("{address} does not answer"))?
}
