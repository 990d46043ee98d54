//! Health checks: what an upstream says about itself, asked at an interval. For people and metrics; a request is
//! tried whatever the last check said, so that a recovered upstream serves at once.

use crate::config::Protocol;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::timeout};

/// A single check takes at most this long.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// What is asked, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The upstream's name.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// `host:port`.
    pub address: String,
    /// The path (HTTP) or the service (gRPC); without it a connection (HTTP) or the whole server (gRPC).
    pub health: Option<String>,
    /// Time between two checks.
    pub interval: Duration,
}

/// What the last check said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Not asked yet.
    Unknown,
    /// It can serve.
    Up,
    /// It cannot be reached, or says that it cannot serve.
    Down,
}

/// An upstream's state.
pub struct State {
    pub(super) check: Check,
    last: Mutex<Last>,
    started: AtomicBool,
}

#[derive(Clone)]
struct Last {
    health: Health,
    since: Instant,
    error: Option<String>,
}

impl State {
    pub(super) fn new(check: Check) -> Self {
        let last = Last { health: Health::Unknown, since: Instant::now(), error: None };
        Self { check, last: Mutex::new(last), started: AtomicBool::new(false) }
    }

    /// The state, how long it has lasted, and why it is down.
    pub fn read(&self) -> (Health, Duration, Option<String>) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (last.health, last.since.elapsed(), last.error)
    }

    /// Starts the checks; they end with the state.
    pub(super) fn start(self: &Arc<Self>) {
        if !self.started.swap(true, Relaxed) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    fn record(&self, result: Result<(), String>) {
        let health = if result.is_ok() { Health::Up } else { Health::Down };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = last.health != health;
        if changed {
            (last.health, last.since) = (health, Instant::now());
        }
        last.error = result.err();
        let (upstream, error) = (&self.check.name, last.error.as_deref().unwrap_or("none"));
        match health {
            Health::Up if changed => tracing::info!(upstream, "upstream is up"),
            Health::Down if changed => tracing::warn!(upstream, error, "upstream is down"),
            _ => {}
        }
    }
}

async fn watch(state: Weak<State>) {
    let client =
        reqwest::Client::builder().timeout(CHECK_TIMEOUT).no_proxy().pool_max_idle_per_host(0).build();
    loop {
        let Some(strong) = state.upgrade() else { return };
        let result = match &client {
            Ok(client) => check(&strong.check, client).await,
            Err(error) => Err(error.to_string()),
        };
        let ok = result.is_ok();
        strong.record(result);
        // While it is down, it is asked more often: a start is seen within a second.
        let interval =
            if ok { strong.check.interval } else { strong.check.interval.min(Duration::from_secs(1)) };
        drop(strong);
        tokio::time::sleep(interval).await;
    }
}

async fn check(check: &Check, client: &reqwest::Client) -> Result<(), String> {
    match (check.protocol, &check.health) {
        (Protocol::Http, Some(path)) => http_health(client, &format!("http://{}{path}", check.address)).await,
        (Protocol::Http, None) => connect(&check.address).await.map(drop),
        (Protocol::Grpc, service) => {
            let asked = grpc_health(&check.address, service.as_deref().unwrap_or_default());
            timeout(CHECK_TIMEOUT, asked).await.unwrap_or_else(|_| Err("no answer in time".into()))
        }
    }
}

async fn http_health(client: &reqwest::Client, url: &str) -> Result<(), String> {
    // The error without its URL: the cause is what matters.
    let response = client.get(url).send().await.map_err(|e| cause(&e.without_url()))?;
    let status = response.status();
    if status.is_success() { Ok(()) } else { Err(format!("answered {status}")) }
}

/// The innermost cause.
fn cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    match timeout(CHECK_TIMEOUT, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(|e| e.to_string()),
        Err(_) => Err("no connection in time".into()),
    }
}

/// `grpc.health.v1.Health/Check`: one request and one response of a single field each, framed by hand.
async fn grpc_health(address: &str, service: &str) -> Result<(), String> {
    let stream = connect(address).await?;
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| cause(&e))?;
    let driver = tokio::spawn(connection);
    let answer = ask_health(&mut sender, address, service).await;
    driver.abort();
    answer
}

async fn ask_health(
    sender: &mut hyper::client::conn::http2::SendRequest<Full<Bytes>>,
    address: &str,
    service: &str,
) -> Result<(), String> {
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(Bytes::from(health_request(service))))
        .map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(|e| cause(&e))?;
    let head = response.headers().get("grpc-status").cloned();
    let body = response.into_body().collect().await.map_err(|e| cause(&e))?;
    let status = head.or_else(|| body.trailers().and_then(|t| t.get("grpc-status")).cloned());
    match status.as_ref().and_then(|s| s.to_str().ok()) {
        Some("0") => serving(&body.to_bytes()),
        // A server without the health service lives, at least.
        Some("12") => Ok(()),
        Some(code) => Err(format!("the health check failed with gRPC status {code}")),
        None => Err("the health check got no gRPC status".into()),
    }
}

/// A length-prefixed `HealthCheckRequest { string service = 1; }`.
fn health_request(service: &str) -> Vec<u8> {
    let name = &service.as_bytes()[..service.len().min(100)];
    let mut message = Vec::new();
    if !name.is_empty() {
        message.extend_from_slice(&[0x0a, u8::try_from(name.len()).unwrap_or(100)]);
        message.extend_from_slice(name);
    }
    let length = u32::try_from(message.len()).unwrap_or_default();
    [&[0][..], &length.to_be_bytes(), &message].concat()
}

/// A length-prefixed `HealthCheckResponse { ServingStatus status = 1; }`, where 1 is SERVING.
fn serving(frame: &[u8]) -> Result<(), String> {
    match frame.get(5..) {
        Some([0x08, 1, ..]) => Ok(()),
        Some([0x08, status, ..]) => Err(format!("not serving (status {status})")),
        _ => Err("not serving".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_messages_are_framed_as_grpc_wants() {
        assert_eq!(health_request(""), [0, 0, 0, 0, 0]);
        assert_eq!(health_request("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        assert!(serving(&[0, 0, 0, 0, 2, 0x08, 1]).is_ok());
        assert!(serving(&[0, 0, 0, 0, 2, 0x08, 2]).is_err());
        assert!(serving(&[0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn a_state_remembers_why_it_is_down() {
        let check = Check {
            name: "a".into(),
            protocol: Protocol::Http,
            address: "a:1".into(),
            health: None,
            interval: CHECK_TIMEOUT,
        };
        let state = State::new(check);
        assert_eq!(state.read().0, Health::Unknown);
        state.record(Err("refused".into()));
        assert_eq!((state.read().0, state.read().2.as_deref()), (Health::Down, Some("refused")));
        state.record(Ok(()));
        assert_eq!((state.read().0, state.read().2), (Health::Up, None));
    }
}
