//! Ends the sending of a request's body with its call.
//!
//! hyper asks a body for more only when the peer takes more of it. While the peer reads nothing, the task that sends
//! looks neither at the body nor, once the answer has begun, at the call: what is over would stay open upstream for as
//! long as the peer likes. So that task runs until the call is over; dropping it lets HTTP/2 reset the stream.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A body of at most this size is taken at once, by HTTP/2's smallest window.
const TAKEN_AT_ONCE: u64 = 65_535;

thread_local! {
    /// The call whose body has just been asked for the first time. hyper does that where it begins to send, and if the
    /// body is not taken at once, it hands over the task that sends the rest in the same breath.
    static BEGUN: Cell<Option<CancellationToken>> = const { Cell::new(None) };
}

/// Runs hyper's tasks; one that sends a call's body, until the call is over.
#[derive(Clone, Copy)]
pub(super) struct Tasks;

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        match BEGUN.take() {
            Some(over) => tokio::spawn(async move { drop(over.run_until_cancelled_owned(task).await) }),
            None => tokio::spawn(async move { drop(task.await) }),
        };
    }
}

/// Ties a body to its call, which is over when the guard is dropped; none where the body cannot be held up.
pub(super) fn tie(body: tonic::body::Body) -> (tonic::body::Body, Option<DropGuard>) {
    if body.size_hint().upper().is_some_and(|size| size <= TAKEN_AT_ONCE) {
        return (body, None);
    }
    let over = CancellationToken::new();
    let tied = Tied { body, over: Some(over.clone()) };
    (tonic::body::Body::new(tied), Some(over.drop_guard()))
}

struct Tied {
    body: tonic::body::Body,
    /// None once the body has been asked for.
    over: Option<CancellationToken>,
}

impl Body for Tied {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if let Some(over) = self.over.take() {
            BEGUN.set(Some(over));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
