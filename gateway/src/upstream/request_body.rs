//! A request's body on its way to an upstream: counts against the limit, and tells the waiting side how the upload goes.

use crate::edge::BodyError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

/// A body to send upstream. Without content it costs nothing.
pub struct RequestBody {
    incoming: Option<Incoming>,
    upload: Option<Arc<Upload>>,
    left: u64,
}

/// How an upload goes, shared with the side that waits for the response.
#[derive(Default)]
pub(super) struct Upload {
    state: AtomicU8,
    progress: AtomicBool,
}

const RUNNING: u8 = 0;
const DONE: u8 = 1;
const TOO_LARGE: u8 = 2;
const CLIENT_FAILED: u8 = 3;

impl Upload {
    pub(super) fn running(&self) -> bool {
        self.state.load(Relaxed) == RUNNING
    }
    pub(super) fn too_large(&self) -> bool {
        self.state.load(Relaxed) == TOO_LARGE
    }
    pub(super) fn client_failed(&self) -> bool {
        self.state.load(Relaxed) == CLIENT_FAILED
    }
    /// Whether anything moved since the last call.
    pub(super) fn take_progress(&self) -> bool {
        self.progress.swap(false, Relaxed)
    }
}

impl RequestBody {
    /// No content.
    pub fn empty() -> Self {
        Self { incoming: None, upload: None, left: 0 }
    }

    /// A client's body, of at most `limit` bytes.
    pub fn new(incoming: Incoming, limit: u64) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self { incoming: Some(incoming), upload: Some(Arc::default()), left: limit }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.incoming.is_none()
    }

    pub(super) fn upload(&self) -> Option<Arc<Upload>> {
        self.upload.clone()
    }

    fn set(&self, state: u8) {
        if let Some(upload) = &self.upload {
            upload.state.store(state, Relaxed);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(cx) else { return Poll::Pending };
        let ended = incoming.is_end_stream();
        match frame {
            None => this.set(DONE),
            Some(Err(error)) => {
                this.set(CLIENT_FAILED);
                return Poll::Ready(Some(Err(error.into())));
            }
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(left) = this.left.checked_sub(length) else {
                    this.set(TOO_LARGE);
                    return Poll::Ready(Some(Err("the body exceeds its limit".into())));
                };
                this.left = left;
                if let Some(upload) = &this.upload {
                    upload.progress.store(true, Relaxed);
                }
                if ended {
                    this.set(DONE);
                }
                return Poll::Ready(Some(Ok(frame)));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
