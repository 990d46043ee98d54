//! Pings on a connection with calls in flight: a peer that is gone without a word is noticed.

use h2::{Ping, PingPong};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// Servers answer more frequent pings with GOAWAY; the services allow this rate
/// (`grpc.http2.min_ping_interval_without_data_ms`).
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Keepalive {
    /// None where somebody else has taken it.
    pings: Option<PingPong>,
    /// A ping is on its way.
    waiting: bool,
    timer: Pin<Box<Sleep>>,
}

impl Keepalive {
    pub(super) fn new(pings: Option<PingPong>) -> Self {
        Self { pings, waiting: false, timer: Box::pin(tokio::time::sleep(INTERVAL)) }
    }

    /// Ready once the peer has left a ping unanswered. Never pings while idle: gRPC servers count that as abuse.
    pub(super) fn poll_dead(&mut self, cx: &mut Context<'_>, busy: bool) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        loop {
            if self.waiting && pings.poll_pong(cx).is_ready() {
                self.waiting = false;
                self.timer.as_mut().reset(Instant::now() + INTERVAL);
            }
            ready!(self.timer.as_mut().poll(cx));
            if self.waiting {
                return Poll::Ready(());
            }
            self.waiting = busy && pings.send_ping(Ping::opaque()).is_ok();
            let pause = if self.waiting { TIMEOUT } else { INTERVAL };
            self.timer.as_mut().reset(Instant::now() + pause);
        }
    }
}
