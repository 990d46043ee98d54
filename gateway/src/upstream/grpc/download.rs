//! A response's body on its way down: data, then trailers. The stream's window is given back as data is taken.

use super::{
    pool::{CallError, Lease},
    upload::Sending,
};
use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A response's body; the call counts as in flight until it is dropped, which resets what has not ended.
pub struct LeasedBody {
    stream: RecvStream,
    data_ended: bool,
    /// What nobody has taken, copied; its share of the window is still out.
    aside: BytesMut,
    /// What is to come out after it.
    failed: Option<h2::Error>,
    _sending: Option<Sending>,
    _lease: Lease,
}

impl LeasedBody {
    pub(super) fn new(stream: RecvStream, sending: Option<Sending>, lease: Lease) -> Self {
        let aside = BytesMut::new();
        Self { stream, data_ended: false, aside, failed: None, _sending: sending, _lease: lease }
    }

    /// Copies what has come and was not taken, for a reader that stalls.
    ///
    /// Small frames are slices of read buffers that a connection's streams share: a few that wait keep buffers of many
    /// times their size. The window is not given back, so there is never more here than a window's worth.
    ///
    /// `cx` is woken for what comes next, in the place of whoever polled the body last.
    pub fn set_aside(&mut self, cx: &mut Context<'_>) {
        while !self.data_ended && self.failed.is_none() {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => self.aside.extend_from_slice(&data),
                Poll::Ready(Some(Err(error))) => self.failed = Some(error),
                Poll::Ready(None) => self.data_ended = true,
                Poll::Pending => return,
            }
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if !self.aside.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.aside).freeze())));
        }
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if self.data_ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.stream.poll_data(cx));
        self.data_ended = next.is_none();
        Poll::Ready(next)
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<HeaderMap, h2::Error>>> {
        self.stream.poll_trailers(cx).map(Result::transpose)
    }
}

impl Body for LeasedBody {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        let frame = match ready!(self.poll_data(cx)) {
            Some(Ok(data)) => {
                // Fails only where the stream is over.
                let _ = self.stream.flow_control().release_capacity(data.len());
                Some(Ok(Frame::data(data)))
            }
            Some(Err(error)) => Some(Err(error)),
            None => ready!(self.poll_trailers(cx)).map(|trailers| trailers.map(Frame::trailers)),
        };
        Poll::Ready(match frame {
            // The upstream has said all and wants no more of the request.
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => None,
            frame => frame.map(|frame| frame.map_err(CallError::Broken)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.aside.is_empty() && self.failed.is_none() && self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
