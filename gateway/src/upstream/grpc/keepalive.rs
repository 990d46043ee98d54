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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::future::poll_fn;

    /// How long it takes until a peer that never answers is found dead, if it is within an hour.
    async fn silent(busy: bool) -> Option<Duration> {
        let (ours, _theirs) = tokio::io::duplex(1 << 16);
        let (_sender, mut connection) = h2::client::Builder::new().handshake::<_, Bytes>(ours).await.unwrap();
        let mut keepalive = Keepalive::new(connection.ping_pong());
        let began = Instant::now();
        let dead = poll_fn(|cx| {
            let _ = Pin::new(&mut connection).poll(cx);
            keepalive.poll_dead(cx, busy)
        });
        let dead = tokio::time::timeout(Duration::from_secs(3600), dead).await;
        dead.is_ok().then(|| began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_gone_without_a_word_is_noticed_while_calls_wait_for_it() {
        let noticed = silent(true).await.unwrap();
        assert!((INTERVAL + TIMEOUT..INTERVAL + TIMEOUT * 2).contains(&noticed), "{noticed:?}");
        assert_eq!(silent(false).await, None, "nobody waits");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answers_is_pinged_again_and_lives() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            let mut server = h2::server::handshake(theirs).await.unwrap();
            while server.accept().await.is_some() {}
        });
        let (_sender, mut connection) = h2::client::Builder::new().handshake::<_, Bytes>(ours).await.unwrap();
        let mut keepalive = Keepalive::new(connection.ping_pong());
        let dead = poll_fn(|cx| {
            let _ = Pin::new(&mut connection).poll(cx);
            keepalive.poll_dead(cx, true)
        });
        assert!(
            tokio::time::timeout(Duration::from_secs(3600), dead).await.is_err(),
            "it answered every ping"
        );
    }
}
