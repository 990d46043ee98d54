//! A request's body on its way up, at the pace that the upstream allows.

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::{Body as _, Frame};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::task::AbortHandle;

type Next = Option<Result<Frame<Bytes>, tonic::Status>>;

/// What the body has at once: `Poll::Pending` is nothing yet.
pub(super) async fn at_once(body: &mut tonic::body::Body) -> Poll<Next> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await
}

/// A body that is being sent. Dropped, it ends at once, even where the upstream takes nothing: the stream is reset
/// as soon as its other half is dropped, too.
pub(super) struct Sending(AbortHandle);

impl Sending {
    /// Sends what the body gave at once, and then the rest of it. None: that was all.
    pub(super) fn begin(
        body: tonic::body::Body,
        mut stream: SendStream<Bytes>,
        first: Poll<Next>,
    ) -> Option<Self> {
        let mut held = None;
        match first {
            Poll::Ready(Some(Ok(frame))) if frame.is_data() && body.is_end_stream() => {
                // Nothing follows, so there is nothing to wait with: h2 keeps to the window.
                let _ = stream.send_data(frame.into_data().unwrap_or_default(), true);
                return None;
            }
            Poll::Ready(next) => {
                held = settle(next, &mut stream)?;
            }
            Poll::Pending => {}
        }
        Some(Self(tokio::spawn(Pump { body, stream, held }).abort_handle()))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Data to be sent, or none after the body's end, which is then sent.
#[expect(
    clippy::option_option,
    reason = "over, nothing yet, something: settled in one place for both callers"
)]
fn settle(next: Next, stream: &mut SendStream<Bytes>) -> Option<Option<Bytes>> {
    match next {
        Some(Ok(frame)) => match frame.into_data() {
            Ok(data) => return Some(Some(data).filter(|data| !data.is_empty())),
            Err(frame) => drop(stream.send_trailers(frame.into_trailers().unwrap_or_default())),
        },
        None => drop(stream.send_data(Bytes::new(), true)),
        // The client left, or its body was refused.
        Some(Err(_)) => stream.send_reset(Reason::CANCEL),
    }
    None
}

struct Pump {
    body: tonic::body::Body,
    stream: SendStream<Bytes>,
    /// Waits for the stream's window.
    held: Option<Bytes>,
}

impl Future for Pump {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { body, stream, held } = &mut *self;
        loop {
            // The upstream wants no more.
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            if let Some(data) = held.take() {
                // Before the body is asked for more: what the client may send depends on it.
                stream.reserve_capacity(data.len());
                while stream.capacity() == 0 {
                    match stream.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(_) => return Poll::Ready(()),
                        Poll::Pending => {
                            *held = Some(data);
                            return Poll::Pending;
                        }
                    }
                }
                let mut data = data;
                let fits = data.split_to(data.len().min(stream.capacity()));
                if stream.send_data(fits, false).is_err() {
                    return Poll::Ready(());
                }
                *held = Some(data).filter(|data| !data.is_empty());
                continue;
            }
            match settle(ready!(Pin::new(&mut *body).poll_frame(cx)), stream) {
                Some(next) => *held = next,
                None => return Poll::Ready(()),
            }
        }
    }
}
