//! WebSocket tunnels. Once the upstream has answered 101, both sides are plain sockets (or one is a stream of
//! HTTP/2) and all HTTP state is gone: an idle tunnel is a small future without a buffer. Bytes go through one scratch
//! buffer a thread; only what the other side does not take at once is kept.

use super::proxy::has_content;
use crate::edge::{
    Code, Problem,
    metrics::Metrics,
    websocket::{Handshake, StreamSocket},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use hyper_util::rt::TokioIo;
use std::{
    cell::RefCell,
    collections::HashMap,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::AbortHandle,
    time::{Instant, Sleep, sleep},
};
use tokio_util::either::Either;

/// The idle timer looks this many times within the idle time, so a tunnel ends at most a quarter late.
const IDLE_LOOKS: u8 = 4;
const SCRATCH: usize = 64 * 1024;

/// Limits and times.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Open tunnels.
    pub limit: usize,
    /// Until the upstream's 101.
    pub handshake: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// Whatever moves.
    pub max_age: Duration,
    /// One direction after the other has ended.
    pub half_close: Duration,
}

/// Refuses handshakes that smuggle content, or that are not GET.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Problem> {
    if request.method() != Method::GET {
        return Err(
            Problem::new(Code::MethodNotAllowed, "A WebSocket handshake is a GET.").with_allow("GET".into())
        );
    }
    if has_content(request.method(), request.headers()) {
        return Err(Problem::new(Code::InvalidArgument, "A WebSocket handshake has no body."));
    }
    Ok(())
}

/// Whether the upstream's 101 is one to WebSocket.
pub(super) fn granted(upgrade: Option<&HeaderValue>) -> bool {
    upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The open tunnels of a gateway, over all reloads.
pub struct Tunnels {
    open: Mutex<HashMap<u64, AbortHandle>>,
    next: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Tunnels {
    /// None is open yet.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), next: AtomicU64::new(0), metrics })
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Ends all of them.
    pub fn abort(&self) {
        self.lock().values().for_each(AbortHandle::abort);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, AbortHandle>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn admit(&self, limit: usize) -> Result<(), Problem> {
        match self.count() < limit {
            true => Ok(()),
            false => Err(Problem::new(Code::Overloaded, "Too many tunnels are open.")),
        }
    }

    /// Starts a tunnel between the client, whose answer is on its way, and the upstream.
    pub(super) fn open(
        self: &Arc<Self>,
        settings: Settings,
        client: Handshake,
        upstream: TcpStream,
        early: Bytes,
    ) {
        let id = self.next.fetch_add(1, Relaxed);
        let guard = Guard { tunnels: Arc::clone(self), id };
        self.metrics.tunnels.fetch_add(1, Relaxed);
        self.metrics.tunnels_total.fetch_add(1, Relaxed);
        // The lock is held over the spawn, so that a tunnel cannot end before it is listed.
        let mut open = self.lock();
        let task = tokio::spawn(run(settings, client, upstream, early, guard));
        open.insert(id, task.abort_handle());
    }
}

/// Takes a tunnel off the list, however it ends.
struct Guard {
    tunnels: Arc<Tunnels>,
    id: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.tunnels.lock().remove(&self.id);
        self.tunnels.metrics.tunnels.fetch_sub(1, Relaxed);
    }
}

async fn run(settings: Settings, client: Handshake, upstream: TcpStream, early: Bytes, guard: Guard) {
    // Boxed apart, so that the handshake's state is given back before the tunnel's long life.
    let result = match Box::pin(connect(settings, client, upstream, early)).await {
        Some(Either::Left(tunnel)) => tunnel.await,
        Some(Either::Right(tunnel)) => tunnel.await,
        None => return,
    };
    tracing::debug!(?result, "tunnel closed");
    drop(guard);
}

/// Over HTTP/1.1 both sides are plain sockets. The other kind is larger, and so apart.
type Opened = Either<Tunnel<TcpStream>, Pin<Box<Tunnel<StreamSocket>>>>;

async fn connect(settings: Settings, client: Handshake, upstream: TcpStream, early: Bytes) -> Option<Opened> {
    Some(match client.socket(settings.handshake).await? {
        Either::Left(upgraded) => {
            let parts = upgraded.into_inner().downcast::<TokioIo<TcpStream>>().ok()?;
            Either::Left(Tunnel::new(settings, parts.io.into_inner(), parts.read_buf, upstream, early))
        }
        Either::Right(stream) => {
            Either::Right(Box::pin(Tunnel::new(settings, stream, Bytes::new(), upstream, early)))
        }
    })
}

/// Why a tunnel ended without an error.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Closed,
    Idle,
    MaxAge,
    HalfClosed,
}

struct Tunnel<C> {
    client: C,
    upstream: TcpStream,
    up: Flow,
    down: Flow,
    timer: Pin<Box<Sleep>>,
    /// The timer has been polled.
    armed: bool,
    idle: Duration,
    half_close: Duration,
    dies_at: Instant,
    /// Set while one direction has ended.
    half_until: Option<Instant>,
    moved: bool,
    quiet: u8,
}

/// One direction.
#[derive(Default)]
struct Flow {
    /// What the receiving side has not taken yet.
    pending: Bytes,
    /// The sending side has ended.
    eof: bool,
    /// The end was passed on.
    done: bool,
}

impl<C> Tunnel<C> {
    fn new(
        settings: Settings,
        client: C,
        from_client: Bytes,
        upstream: TcpStream,
        from_upstream: Bytes,
    ) -> Self {
        let idle = settings.idle / u32::from(IDLE_LOOKS);
        Self {
            client,
            upstream,
            up: Flow { pending: from_client, ..Flow::default() },
            down: Flow { pending: from_upstream, ..Flow::default() },
            timer: Box::pin(sleep(idle.min(settings.max_age))),
            armed: false,
            idle,
            half_close: settings.half_close,
            dies_at: Instant::now() + settings.max_age,
            half_until: None,
            moved: true,
            quiet: 0,
        }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Future for Tunnel<C> {
    type Output = io::Result<Ended>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut moved = false;
        let up = this.up.poll(cx, &mut this.client, &mut this.upstream, &mut moved);
        let down = this.down.poll(cx, &mut this.upstream, &mut this.client, &mut moved);
        this.moved |= moved;
        let ended = match (up, down) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ok(Ended::Closed)),
            (up, down) => up.is_ready() || down.is_ready(),
        };
        if ended && this.half_until.is_none() {
            let until = Instant::now() + this.half_close;
            this.half_until = Some(until);
            if until < this.timer.deadline() {
                this.timer.as_mut().reset(until);
            }
        }
        // An armed timer keeps the waker that it was given, and a task's waker stays the same for its life.
        if moved && this.armed && !this.timer.is_elapsed() {
            return Poll::Pending;
        }
        this.armed = true;
        loop {
            ready!(this.timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= this.dies_at {
                return Poll::Ready(Ok(Ended::MaxAge));
            }
            if this.half_until.is_some_and(|until| now >= until) {
                return Poll::Ready(Ok(Ended::HalfClosed));
            }
            this.quiet = if std::mem::take(&mut this.moved) { 0 } else { this.quiet + 1 };
            if this.quiet >= IDLE_LOOKS {
                return Poll::Ready(Ok(Ended::Idle));
            }
            let next = (now + this.idle).min(this.dies_at);
            this.timer.as_mut().reset(this.half_until.map_or(next, |until| next.min(until)));
        }
    }
}

thread_local! {
    static SCRATCH_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

impl Flow {
    /// Moves bytes until neither side can go on. Ready when the end was passed on.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        moved: &mut bool,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.pending.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.pending))?;
                *moved = true;
                bytes::Buf::advance(&mut self.pending, written);
            }
            if self.eof {
                if !self.done {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.done = true;
                }
                return Poll::Ready(Ok(()));
            }
            self.pending = Bytes::new();
            let read = SCRATCH_BUFFER.with_borrow_mut(|scratch| self.pass(cx, from, to, scratch));
            *moved |= ready!(read)?;
        }
    }

    /// One read, and as much of it written as is taken. Ready with whether anything came.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        scratch: &mut [u8],
    ) -> Poll<io::Result<bool>> {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
        let mut rest = buffer.filled();
        self.eof = rest.is_empty();
        let moved = !rest.is_empty();
        while !rest.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, rest)? {
                Poll::Ready(written) => rest = &rest[written..],
                Poll::Pending => {
                    self.pending = Bytes::copy_from_slice(rest);
                    break;
                }
            }
        }
        Poll::Ready(Ok(moved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_a_get_without_content() {
        let request = |method: Method, extra: Option<(&'static str, &'static str)>| {
            let mut request = Request::builder().method(method);
            if let Some((name, value)) = extra {
                request = request.header(name, value);
            }
            request.body(()).unwrap()
        };
        assert!(check(&request(Method::GET, None)).is_ok());
        assert_eq!(
            check(&request(Method::GET, Some(("content-length", "5")))).unwrap_err().code(),
            Code::InvalidArgument
        );
        assert_eq!(
            check(&request(Method::GET, Some(("transfer-encoding", "chunked")))).unwrap_err().code(),
            Code::InvalidArgument
        );
        assert_eq!(check(&request(Method::POST, None)).unwrap_err().code(), Code::MethodNotAllowed);
        assert!(check(&request(Method::GET, Some(("content-length", "0")))).is_ok());
    }

    #[test]
    fn an_idle_tunnel_stays_small() {
        assert!(std::mem::size_of::<Opened>() <= 384, "{} bytes", std::mem::size_of::<Opened>());
    }
}
