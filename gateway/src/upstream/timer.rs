//! A timer for deadlines that are almost always met: it stays armed from one request to the next and is moved only
//! when it fires or when a deadline lies before it, so that a request usually pays no timer operation at all.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::{Instant, Sleep, sleep_until};

pub(super) struct LazyTimer {
    sleep: Pin<Box<Sleep>>,
}

impl LazyTimer {
    pub(super) fn new(first: std::time::Instant) -> Self {
        Self { sleep: Box::pin(sleep_until(first.into())) }
    }

    /// Ready once `deadline` has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, deadline: std::time::Instant) -> Poll<()> {
        let deadline = Instant::from_std(deadline);
        if self.sleep.deadline() > deadline {
            self.sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, time::Duration};

    #[tokio::test(start_paused = true)]
    async fn it_keeps_earlier_and_later_deadlines() {
        let start = Instant::now();
        let at = |secs| (start + Duration::from_secs(secs)).into_std();
        let mut timer = LazyTimer::new(at(5));
        poll_fn(|cx| timer.poll(cx, at(9))).await;
        assert_eq!(start.elapsed().as_secs(), 9, "a later deadline outlasts the armed time");
        poll_fn(|cx| {
            assert!(timer.poll(cx, at(60)).is_pending());
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| timer.poll(cx, at(12))).await;
        assert_eq!(start.elapsed().as_secs(), 12, "an earlier deadline moves it forward");
    }
}
