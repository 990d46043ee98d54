//! The upstream's messages on their way to the client: pulled whole, bounded in size and in time.

use super::{Endpoint, Exchange, problems};
use crate::{
    edge::{Code, Problem},
    upstream::grpc::LeasedBody,
};
use http::HeaderMap;
use http_body::Body;
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};
use tokio::{task::AbortHandle, time::Sleep};
use tokio_util::sync::DropGuard;
use transcode::envelope::{Decoder, EnvelopeError};

/// A client that has taken nothing for this long stalls. What comes for it while it does is looked after as often.
pub(in super::super) const STALLED: Duration = Duration::from_secs(1);

/// How a call's messages ended.
pub(in super::super) enum Ending {
    /// As the upstream says in its trailers; they may be trailers without a status.
    Trailers(HeaderMap),
    /// By what happened between the two.
    Failed(Problem),
}

/// The messages of a response. Dropped, they reset the call in both directions.
pub(in super::super) struct Messages {
    endpoint: Arc<Endpoint>,
    exchange: Arc<Exchange>,
    held: Arc<Held>,
    decoder: Decoder,
    timer: Pin<Box<Sleep>>,
    watch: Option<AbortHandle>,
    _over: DropGuard,
}

/// The upstream's body, within reach of the one who looks whether the client reads.
///
/// A body that nobody polls cannot watch its own time: a client that stops reading would hold the upstream's work for
/// as long as it likes. The watch holds no body: it sets aside what came for a client that does not
/// read, and ends what waited for too long.
struct Held(Mutex<State>);

struct State {
    body: Option<LeasedBody>,
    /// Since when something waits for the client to read it.
    unread: Option<Instant>,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn watch(self: Arc<Self>, exchange: Arc<Exchange>, patience: Duration) {
        loop {
            let now = Instant::now();
            let Some(until) = self.look(&exchange, patience, now) else { return };
            tokio::time::sleep_until(until.min(now + STALLED).into()).await;
        }
    }

    /// When there is something to do again; None once the call was ended.
    fn look(&self, exchange: &Exchange, patience: Duration, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        let patient = state.unread.unwrap_or(now) + patience;
        if let Some(since) = state.unread {
            if now >= patient.min(exchange.deadline) {
                state.body = None;
                exchange.over.cancel();
                return None;
            }
            // Under the lock: one who reads again asks only after this.
            if now >= since + STALLED
                && let Some(body) = &mut state.body
            {
                body.set_aside(&mut Context::from_waker(Waker::noop()));
            }
        }
        // Past the deadline, one who reads is told of it.
        Some(if now < exchange.deadline { patient.min(exchange.deadline) } else { patient })
    }
}

impl Messages {
    pub(super) fn new(
        endpoint: &Arc<Endpoint>,
        exchange: &Arc<Exchange>,
        body: LeasedBody,
        over: DropGuard,
    ) -> Self {
        let held = Arc::new(Held(Mutex::new(State { body: Some(body), unread: None })));
        // A unary answer is read whole before the client sees any of it.
        let watch = exchange
            .idle
            .map(|idle| tokio::spawn(Arc::clone(&held).watch(Arc::clone(exchange), idle)).abort_handle());
        Self {
            endpoint: Arc::clone(endpoint),
            exchange: Arc::clone(exchange),
            held,
            decoder: Decoder::new(endpoint.limits.body_bytes),
            timer: Box::pin(tokio::time::sleep_until(exchange.moment().into())),
            watch,
            _over: over,
        }
    }

    /// What `take` finds next. After an ending there is nothing to ask for.
    pub(in super::super) fn poll_next<T>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl Fn(&mut Decoder) -> Result<Option<T>, EnvelopeError>,
    ) -> Poll<Result<T, Ending>> {
        let polled = self.poll_inner(cx, take);
        if let Poll::Ready(Err(_)) = polled {
            self.stop();
        }
        polled
    }

    /// Says that something was given out; until the next poll the client has not read it.
    pub(in super::super) fn given(&self) {
        self.held.lock().unread = Some(Instant::now());
    }

    fn poll_inner<T>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl Fn(&mut Decoder) -> Result<Option<T>, EnvelopeError>,
    ) -> Poll<Result<T, Ending>> {
        let failed = |problem| Poll::Ready(Err(Ending::Failed(problem)));
        loop {
            match take(&mut self.decoder) {
                Ok(Some(found)) => {
                    self.exchange.moved();
                    return if self.exchange.is_late() {
                        failed(problems::timed_out())
                    } else {
                        Poll::Ready(Ok(found))
                    };
                }
                Ok(None) => {}
                Err(error) => return failed(self.misframed(error)),
            }
            let mut state = self.held.lock();
            state.unread = None;
            let Some(body) = &mut state.body else {
                return failed(Problem::new(Code::Cancelled, "The stream was not read."));
            };
            let polled = Pin::new(body).poll_frame(cx);
            drop(state);
            match polled {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.decoder.push(data),
                    Err(frame) => return Poll::Ready(Err(self.ended(frame.into_trailers().ok()))),
                },
                Poll::Ready(Some(Err(error))) => {
                    let refusal = self.exchange.refusal();
                    return failed(refusal.unwrap_or_else(|| problems::from_call(&self.endpoint, &error)));
                }
                Poll::Ready(None) => return Poll::Ready(Err(self.ended(None))),
                Poll::Pending => {
                    ready!(self.poll_late(cx));
                    return failed(problems::timed_out());
                }
            }
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.exchange.is_late() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.exchange.moment().into());
        }
    }

    fn ended(&self, trailers: Option<HeaderMap>) -> Ending {
        match trailers {
            _ if self.decoder.finish().is_err() => Ending::Failed(self.misframed(EnvelopeError::Truncated)),
            Some(trailers) if trailers.contains_key("grpc-status") => Ending::Trailers(trailers),
            _ => {
                let refusal = self.exchange.refusal();
                let no_status = || Problem::new(Code::BadGateway, "The upstream ended without a status.");
                Ending::Failed(refusal.unwrap_or_else(no_status))
            }
        }
    }

    fn misframed(&self, error: EnvelopeError) -> Problem {
        tracing::warn!(upstream = self.endpoint.upstream.name, %error, "the upstream's stream cannot be read");
        match error {
            EnvelopeError::TooLarge { limit, .. } => problems::answer_too_large(limit),
            _ => Problem::new(Code::BadGateway, "The upstream's answer is not gRPC."),
        }
    }

    /// Lets the upstream go.
    pub(in super::super) fn stop(&mut self) {
        self.held.lock().body = None;
        self.exchange.over.cancel();
        if let Some(watch) = self.watch.take() {
            watch.abort();
        }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.stop();
    }
}
