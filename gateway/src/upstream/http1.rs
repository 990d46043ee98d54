//! The hot path's HTTP/1 client: hyper's connections behind a pool of our own.
//!
//! A connection is driven by the task of the request that holds it, not by one of its own: that spares two wake-ups
//! a request, and dropping the request closes the connection at once. Unused ones are not polled; taking one out
//! polls it once, which shows whether the upstream has closed it.

use super::{request_body::RequestBody, request_body::Upload, timer::LazyTimer};
use crate::edge::{BodyError, Link};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body as _, Frame};
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, Connection, SendRequest},
};
use hyper_util::rt::TokioIo;
use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::timeout};

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
    Broken(hyper::Error),
    /// The request's body exceeds its limit.
    #[error("the request's body is too large")]
    BodyTooLarge,
    /// The client's body broke off, or stalled.
    #[error("the request's body did not arrive")]
    BodyIncomplete,
}

/// A connection in use. Dropping it closes the connection.
pub struct Lease(Box<Conn>);

struct Conn {
    sender: SendRequest<RequestBody>,
    driver: Connection<TokioIo<TcpStream>, RequestBody>,
    /// The driver must not be polled again.
    ended: bool,
    reused: bool,
    timer: LazyTimer,
    /// Something has come since `body_deadline` was set.
    progress: bool,
    body_idle: Duration,
    body_deadline: Instant,
    /// The client's own deadline, which also bounds the body.
    until: Option<Instant>,
    unused_since: Instant,
    pool: Option<InFlight>,
}

/// Counts a request for as long as it holds a connection.
struct InFlight(Arc<Pool>);

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
        request: Request<RequestBody>,
        wait: Wait,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        let permit = InFlight(Arc::clone(self));
        if self.in_flight.fetch_add(1, Relaxed) >= self.settings.max_requests {
            return Err(SendError::Overloaded);
        }
        let (mut request, mut permit) = (request, Some(permit));
        let mut reuse = true;
        loop {
            let taken = if reuse { self.take(wait.start) } else { None };
            let mut conn = match taken {
                Some(conn) => conn,
                None => self.connect(wait).await?,
            };
            let upload = request.body().upload();
            let copy = if conn.reused { repeatable(&request) } else { None };
            conn.progress = true;
            conn.until = wait.absolute.then_some(wait.deadline);
            let mut sent = pin!(conn.sender.try_send_request(request));
            let head = Head {
                wait,
                budget: wait.deadline - wait.start,
                upload: upload.as_deref(),
                body_idle: self.settings.body_idle,
            };
            match head.receive(&mut conn, sent.as_mut()).await {
                Ok(response) => {
                    conn.pool = permit.take();
                    return Ok((response, Lease(conn)));
                }
                Err(Failure::Timeout) if upload.as_ref().is_some_and(|u| u.running()) => {
                    return Err(SendError::BodyIncomplete);
                }
                Err(Failure::Timeout) => return Err(SendError::Timeout),
                Err(Failure::Send(mut error)) => {
                    // Not sent at all, or known to do no harm twice.
                    match error.take_message().or(copy) {
                        Some(again) if reuse && conn.reused => request = again,
                        _ => return Err(classify(error.into_error(), upload.as_deref())),
                    }
                }
            }
            reuse = false;
        }
    }

    /// The connection used last, if it is still open.
    fn take(&self, now: Instant) -> Option<Box<Conn>> {
        loop {
            let mut conn = self.lock().pop()?;
            let fresh = now.saturating_duration_since(conn.unused_since) < self.settings.idle;
            if fresh && conn.settle() {
                conn.reused = true;
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
        let handshake = Builder::new().handshake(TokioIo::new(stream)).await;
        let (sender, driver) = handshake.map_err(SendError::Broken)?;
        let now = Instant::now();
        Ok(Box::new(Conn {
            sender,
            driver,
            ended: false,
            reused: false,
            timer: LazyTimer::new(wait.deadline),
            progress: true,
            body_idle: self.settings.body_idle,
            body_deadline: now,
            until: None,
            unused_since: now,
            pool: None,
        }))
    }
}

/// A copy of a request that has no body and may reach an upstream twice.
fn repeatable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let safe = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    );
    if !safe || !request.body().is_empty() {
        return None;
    }
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

fn classify(error: hyper::Error, upload: Option<&Upload>) -> SendError {
    match upload {
        Some(upload) if upload.too_large() => SendError::BodyTooLarge,
        Some(upload) if upload.client_failed() => SendError::BodyIncomplete,
        _ => SendError::Broken(error),
    }
}

/// Waiting for a response's head.
struct Head<'a> {
    wait: Wait,
    budget: Duration,
    upload: Option<&'a Upload>,
    body_idle: Duration,
}

enum Failure {
    Timeout,
    Send(Box<hyper::client::conn::TrySendError<Request<RequestBody>>>),
}

type Sent = Result<Response<Incoming>, hyper::client::conn::TrySendError<Request<RequestBody>>>;

impl Head<'_> {
    async fn receive(
        &self,
        conn: &mut Conn,
        mut sent: Pin<&mut impl Future<Output = Sent>>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut uploading = self.upload.is_some();
        let mut deadline = if uploading { self.wait.start + self.body_idle } else { self.wait.deadline };
        poll_fn(|cx| {
            conn.drive(cx);
            if let Poll::Ready(result) = sent.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(|error| Failure::Send(Box::new(error))));
            }
            loop {
                if uploading && self.upload.is_some_and(|u| !u.running()) {
                    uploading = false;
                    deadline = Instant::now() + self.budget;
                }
                let bound = if self.wait.absolute { deadline.min(self.wait.deadline) } else { deadline };
                if conn.timer.poll(cx, bound).is_pending() {
                    return Poll::Pending;
                }
                let moved = uploading && self.upload.is_some_and(Upload::take_progress);
                if !moved || (self.wait.absolute && bound == self.wait.deadline) {
                    return Poll::Ready(Err(Failure::Timeout));
                }
                deadline = Instant::now() + self.body_idle;
            }
        })
        .await
    }
}

impl Conn {
    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.ended {
            // Its error also reaches the response or the body, which say more.
            self.ended = self.driver.poll_without_shutdown(cx).is_ready();
        }
    }

    /// Moves the connection to rest; whether it can take a request.
    fn settle(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.ended && self.sender.is_ready()
    }

    /// Ready when nothing has come for too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.progress) {
            let idle = Instant::now() + self.body_idle;
            self.body_deadline = self.until.map_or(idle, |until| until.min(idle));
        }
        self.timer.poll(cx, self.body_deadline)
    }
}

impl Link for Lease {
    fn poll_frame(
        &mut self,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let conn = &mut *self.0;
        let mut polled = Pin::new(&mut *incoming).poll_frame(cx);
        if polled.is_pending() {
            conn.drive(cx);
            polled = Pin::new(incoming).poll_frame(cx);
        }
        match polled {
            Poll::Ready(frame) => {
                conn.progress = true;
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending if conn.poll_stalled(cx).is_ready() => {
                Poll::Ready(Some(Err("the upstream's response stalled".into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn release(self: Box<Self>) {
        let mut conn = self.0;
        let Some(permit) = conn.pool.take() else { return };
        if !conn.settle() {
            return;
        }
        conn.unused_since = Instant::now();
        let mut idle = permit.0.lock();
        if idle.len() < permit.0.settings.max_idle {
            idle.push(conn);
        }
    }
}

impl Lease {
    /// The socket behind a connection that has answered 101, with what was read beyond the answer.
    pub fn into_socket(mut self) -> (TcpStream, Bytes) {
        self.0.drive(&mut Context::from_waker(Waker::noop()));
        let parts = self.0.driver.into_parts();
        (parts.io.into_inner(), parts.read_buf)
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
            unused
                .extract_if(.., |conn| {
                    now.saturating_duration_since(conn.unused_since) >= idle || !conn.settle()
                })
                .collect()
        };
        drop(doomed);
    }
}
