//! The connections to one gRPC upstream: opened on demand, calls spread over them, all bounded.

use super::{abandon, connection::Connection};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::uri::{Authority, Scheme, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio_util::sync::DropGuard;

/// Calls are spread over this many connections; further ones are opened only when these are full.
const BASE: usize = 4;
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// Short, so that a restarted upstream is used again within a second.
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// Why a call has no response.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The bound on calls in flight is reached.
    #[error("too many calls are in flight")]
    Overloaded,
    /// No connection can be made.
    #[error("cannot connect: {0}")]
    Unavailable(String),
    /// The connection or stream broke.
    #[error("the upstream broke the connection: {0}")]
    Broken(#[source] hyper::Error),
}

/// What a pool keeps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `host:port`.
    pub address: String,
    /// Connections that are opened at most.
    pub max_connections: usize,
    /// Calls in flight.
    pub max_requests: usize,
    /// Until a connection is made.
    pub connect: Duration,
}

/// The connections to one upstream.
pub struct Pool {
    pub(in crate::upstream) settings: Settings,
    /// The address again, as the `:authority` of calls.
    authority: Option<Authority>,
    slots: Box<[Slot]>,
    next: AtomicUsize,
    in_flight: AtomicUsize,
    failed: Mutex<Option<Failure>>,
}

#[derive(Default)]
struct Slot {
    connection: ArcSwapOption<Connection>,
    /// Held while connecting, so that a burst of calls makes one attempt.
    connecting: tokio::sync::Mutex<()>,
}

/// The last attempt to connect, where it failed.
struct Failure {
    retry_at: Instant,
    backoff: Duration,
    cause: String,
}

impl Pool {
    /// Opens nothing yet: the first call does.
    pub fn new(settings: Settings) -> Self {
        let slots = (0..settings.max_connections.max(1)).map(|_| Slot::default()).collect();
        let authority = settings.address.parse().ok();
        let (next, in_flight) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { settings, authority, slots, next, in_flight, failed: Mutex::new(None) }
    }

    /// Open connections, and calls in flight.
    pub fn usage(&self) -> (usize, usize) {
        let open = self.slots.iter().filter(|slot| slot.live().is_some()).count();
        (open, self.in_flight.load(Relaxed))
    }

    /// Sends a request whose URI is a path; dropping the future or the response's body cancels the call.
    ///
    /// A request that its connection did not take (the peer was closing it) goes to another one, once.
    pub async fn send(
        self: &Arc<Self>,
        request: http::Request<tonic::body::Body>,
    ) -> Result<http::Response<LeasedBody>, CallError> {
        let (mut head, body) = request.into_parts();
        self.address_to(&mut head.uri);
        let (body, sending) = abandon::tie(body);
        let mut request = http::Request::from_parts(head, body);
        let mut second = false;
        loop {
            let lease = self.lease().await?;
            match lease.connection.sender().try_send_request(request).await {
                Ok(response) => {
                    return Ok(response.map(|body| LeasedBody { body, _sending: sending, _lease: lease }));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !second => (request, second) = (unsent, true),
                    _ => return Err(CallError::Broken(error.into_error())),
                },
            }
        }
    }

    /// HTTP/2 wants a scheme and an authority beside the path.
    fn address_to(&self, uri: &mut Uri) {
        let mut parts = std::mem::take(uri).into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority.clone_from(&self.authority);
        *uri = Uri::from_parts(parts).unwrap_or_default();
    }

    async fn lease(self: &Arc<Self>) -> Result<Lease, CallError> {
        if self.in_flight.fetch_add(1, Relaxed) >= self.settings.max_requests {
            self.in_flight.fetch_sub(1, Relaxed);
            return Err(CallError::Overloaded);
        }
        let place = Place(Arc::clone(self));
        let connection = self.connection().await?;
        connection.begin();
        Ok(Lease { connection, _place: place })
    }

    /// The least busy of the first connections; a new one while all of them are busy and there may be more.
    async fn connection(&self) -> Result<Arc<Connection>, CallError> {
        let (base, extra) = self.slots.split_at(BASE.min(self.slots.len()));
        let start = self.next.fetch_add(1, Relaxed);
        let mut best: Option<Arc<Connection>> = None;
        let mut empty = None;
        for offset in 0..base.len() {
            let slot = &base[start.wrapping_add(offset) % base.len()];
            match slot.live() {
                Some(connection) if connection.in_flight() == 0 => return Ok(connection),
                Some(connection)
                    if best.as_ref().is_none_or(|best| connection.in_flight() < best.in_flight()) =>
                {
                    best = Some(connection);
                }
                Some(_) => {}
                None => empty = empty.or(Some(slot)),
            }
        }
        if let Some(slot) = empty {
            return match (self.fill(slot).await, best) {
                (Err(_), Some(best)) if best.has_room() => Ok(best),
                (result, _) => result,
            };
        }
        if let Some(best) = best.filter(|best| best.has_room()) {
            return Ok(best);
        }
        for slot in extra {
            match slot.live() {
                Some(connection) if connection.has_room() => return Ok(connection),
                Some(_) => {}
                None => return self.fill(slot).await,
            }
        }
        Err(CallError::Overloaded)
    }

    async fn fill(&self, slot: &Slot) -> Result<Arc<Connection>, CallError> {
        let _connecting = slot.connecting.lock().await;
        if let Some(connection) = slot.live() {
            return Ok(connection);
        }
        self.refuse_during_backoff()?;
        let opened =
            tokio::time::timeout(self.settings.connect, Connection::open(&self.settings.address)).await;
        match opened {
            Ok(Ok(connection)) => {
                let connection = Arc::new(connection);
                slot.connection.store(Some(Arc::clone(&connection)));
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Ok(connection)
            }
            Ok(Err(error)) => Err(self.remember(error.to_string())),
            Err(_) => Err(self.remember(format!("no connection within {:?}", self.settings.connect))),
        }
    }

    fn refuse_during_backoff(&self) -> Result<(), CallError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failed {
            Some(failure) if Instant::now() < failure.retry_at => {
                Err(CallError::Unavailable(failure.cause.clone()))
            }
            _ => Ok(()),
        }
    }

    fn remember(&self, cause: String) -> CallError {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let backoff = failed.as_ref().map_or(FIRST_BACKOFF, |last| (last.backoff * 2).min(LONGEST_BACKOFF));
        *failed = Some(Failure { retry_at: Instant::now() + backoff, backoff, cause: cause.clone() });
        CallError::Unavailable(cause)
    }
}

impl Slot {
    fn live(&self) -> Option<Arc<Connection>> {
        self.connection.load().as_ref().filter(|connection| connection.is_live()).map(Arc::clone)
    }
}

/// One call's place under the bound.
struct Place(Arc<Pool>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// One call's hold on its connection.
struct Lease {
    connection: Arc<Connection>,
    _place: Place,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.connection.end();
    }
}

/// A response's body; the call counts as in flight until it is dropped.
pub struct LeasedBody {
    body: Incoming,
    /// The request's body goes on until this is dropped.
    _sending: Option<DropGuard>,
    _lease: Lease,
}

impl Body for LeasedBody {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        Pin::new(&mut self.body).poll_frame(cx).map_err(CallError::Broken)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
