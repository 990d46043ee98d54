//! The hot path's HTTP/1 client: a codec and a pool of our own, for what hyper's client costs. Requests are written
//! straight from the client's headers; responses are read by the task that serves the request.

mod conn;
mod framing;
mod request;
mod response;
mod upload;

use super::timer;
use crate::edge::Body;
use bytes::Bytes;
use conn::{Conn, Failure};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use response::ResponseHead;
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::timeout};
use upload::{Upload, UploadError};

pub use conn::Broken;
pub use request::RequestHead;
pub use upload::RequestBody;

/// What a pool keeps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `host:port`.
    pub address: String,
    /// Unused connections that are kept.
    pub max_idle: usize,
    /// Requests in flight.
    pub max_requests: usize,
    /// Until a connection is made.
    pub connect: Duration,
    /// How long an unused connection is kept.
    pub idle: Duration,
    /// Between two pieces of a body.
    pub body_idle: Duration,
}

/// The connections to one upstream.
pub struct Pool {
    pub(super) settings: Settings,
    #[expect(clippy::vec_box, reason = "taking one out and putting it back moves a pointer")]
    idle: Mutex<Vec<Box<Conn>>>,
    in_flight: AtomicUsize,
    started: AtomicBool,
}

/// Why no response came.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Too many requests are in flight.
    #[error("too many requests in flight")]
    Overloaded,
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The deadline passed first.
    #[error("no response before the deadline")]
    Timeout,
    /// The connection broke, or what came was not HTTP.
    #[error("the connection broke: {0}")]
    Broken(Broken),
    /// The request's body exceeds its limit.
    #[error("the request's body is too large")]
    BodyTooLarge,
    /// The client's body broke off, or stalled.
    #[error("the request's body did not arrive")]
    BodyIncomplete,
}

/// Counts a request for as long as it holds a connection.
struct InFlight(Arc<Pool>);

impl InFlight {
    /// Keeps a connection that has served.
    fn keep(self, mut conn: Box<Conn>) {
        conn.reused = true;
        conn.unused_since = Instant::now();
        let mut idle = self.0.lock();
        if idle.len() < self.0.settings.max_idle {
            idle.push(conn);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// When to stop waiting.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// The request's start.
    pub start: Instant,
    /// Until the response's head; counted anew once an upload has ended.
    pub deadline: Instant,
    /// The deadline is the client's own: it binds uploads and streams as well.
    pub absolute: bool,
}

/// A response whose head is there. Dropping it closes the connection.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers that may pass to the next hop.
    pub headers: HeaderMap,
    /// What a 101 changes the protocol to.
    pub upgrade: Option<HeaderValue>,
    conn: Box<Conn>,
}

impl Answer {
    /// The response with its body; the connection serves again when that has ended.
    pub fn into_response(self) -> Response<Body> {
        let Self { status, headers, mut conn, .. } = self;
        let body = match conn.take_whole() {
            Some(whole) => {
                conn.finish();
                Body::full(whole)
            }
            None => Body::linked(conn),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// The socket behind a 101, with what was read beyond the answer.
    pub fn into_socket(self) -> (TcpStream, Bytes) {
        self.conn.into_socket()
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            idle: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            started: AtomicBool::new(false),
        }
    }

    /// Starts closing what stays unused. Ends with the pool.
    pub(super) fn start(self: &Arc<Self>) {
        if !self.started.swap(true, Relaxed) {
            tokio::spawn(upkeep(Arc::downgrade(self), self.settings.idle));
        }
    }

    /// Unused connections, and requests in flight.
    pub fn usage(&self) -> (usize, usize) {
        (self.lock().len(), self.in_flight.load(Relaxed))
    }

    #[expect(clippy::vec_box, reason = "as stored")]
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Box<Conn>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and waits for the response's head. A request that meets a connection which the upstream has
    /// just closed is sent once more when that is safe.
    pub async fn send(
        self: &Arc<Self>,
        head: RequestHead,
        body: RequestBody,
        wait: Wait,
    ) -> Result<Answer, SendError> {
        let in_flight = InFlight(Arc::clone(self));
        if self.in_flight.fetch_add(1, Relaxed) >= self.settings.max_requests {
            return Err(SendError::Overloaded);
        }
        let to_head = head.is_head();
        let mut upload = Upload::new(head, body);
        if let Some(mut conn) = self.take(wait.start) {
            match conn.exchange(&mut upload, to_head, wait).await {
                Err(Failure::Broken(_)) if !conn.has_input() && upload.rewind() => {}
                result => return answer(conn, result, upload, wait, in_flight),
            }
        }
        // Seldom needed, so its state is kept out of every request's future.
        Box::pin(async move {
            let mut conn = self.connect(wait).await?;
            let result = conn.exchange(&mut upload, to_head, wait).await;
            answer(conn, result, upload, wait, in_flight)
        })
        .await
    }

    /// The connection used last, if it is still open.
    fn take(&self, now: Instant) -> Option<Box<Conn>> {
        loop {
            let conn = self.lock().pop()?;
            let fresh = now.saturating_duration_since(conn.unused_since) < self.settings.idle;
            if fresh && conn.is_open() {
                return Some(conn);
            }
        }
    }

    async fn connect(&self, wait: Wait) -> Result<Box<Conn>, SendError> {
        let left = wait.deadline.saturating_duration_since(Instant::now());
        let limit = self.settings.connect.min(left);
        let stream = match timeout(limit, TcpStream::connect(&self.settings.address)).await {
            Ok(connected) => connected.map_err(SendError::Connect)?,
            Err(_) if limit == left => return Err(SendError::Timeout),
            Err(_) => return Err(SendError::Connect(io::ErrorKind::TimedOut.into())),
        };
        let _ = stream.set_nodelay(true);
        Ok(Box::new(Conn::new(stream, self.settings.body_idle, wait.deadline)))
    }
}

fn answer(
    mut conn: Box<Conn>,
    result: Result<ResponseHead, Failure>,
    upload: Upload,
    wait: Wait,
    in_flight: InFlight,
) -> Result<Answer, SendError> {
    match result {
        Ok(mut head) => {
            conn.begin_body(&mut head, upload, wait);
            conn.in_flight = Some(in_flight);
            Ok(Answer { status: head.status, headers: head.headers, upgrade: head.upgrade, conn })
        }
        Err(Failure::Timeout) if upload.waits_for_client() => Err(SendError::BodyIncomplete),
        Err(Failure::Timeout) => Err(SendError::Timeout),
        Err(Failure::Upload(UploadError::TooLarge)) => Err(SendError::BodyTooLarge),
        Err(Failure::Upload(_)) => Err(SendError::BodyIncomplete),
        Err(Failure::Broken(error)) => Err(SendError::Broken(error)),
    }
}

/// Closes connections that stay unused, or that the upstream has closed.
async fn upkeep(pool: Weak<Pool>, idle: Duration) {
    loop {
        tokio::time::sleep(idle / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        let now = Instant::now();
        let doomed: Vec<_> = {
            let mut unused = pool.lock();
            let stale = |conn: &mut Box<Conn>| {
                now.saturating_duration_since(conn.unused_since) >= idle || !conn.is_open()
            };
            unused.extract_if(.., stale).collect()
        };
        drop(doomed);
    }
}
