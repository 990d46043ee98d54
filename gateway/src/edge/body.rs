//! The one response body type. A proxied body is polled with no allocation; the others are for the gateway's own
//! answers and for transcoded streams.

use super::connection::Finish;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// Any body's error. It ends the client's connection (or stream), so that a cut body is never taken for a whole one.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The connection behind a proxied body: moves it on, and takes itself back when the body has ended.
pub trait Link: Send {
    /// Polls `incoming`, and what has to run for it.
    fn poll_frame(
        &mut self,
        incoming: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>>;
    /// The body has ended: the connection may serve again.
    fn release(self: Box<Self>);
}

/// A response's body.
pub struct Body {
    kind: Kind,
    finish: Option<Finish>,
}

enum Kind {
    Full(Option<Bytes>),
    Proxied(Incoming, Option<Box<dyn Link>>),
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>),
}

impl Body {
    /// No content.
    pub fn empty() -> Self {
        Self { kind: Kind::Full(None), finish: None }
    }

    /// Content that is all there.
    pub fn full(content: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Full(Some(content.into()).filter(|b: &Bytes| !b.is_empty())), finish: None }
    }

    /// A body that arrives over `link`.
    pub fn proxied(incoming: Incoming, link: Box<dyn Link>) -> Self {
        let mut body = Self { kind: Kind::Proxied(incoming, Some(link)), finish: None };
        body.release_when_ended();
        body
    }

    /// A body from a connection that runs elsewhere; trailers pass.
    pub fn incoming(incoming: Incoming) -> Self {
        Self { kind: Kind::Proxied(incoming, None), finish: None }
    }

    /// Any other body.
    pub fn stream(body: impl HttpBody<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self { kind: Kind::Stream(Box::pin(body)), finish: None }
    }

    pub(crate) fn with_finish(mut self, finish: Finish) -> Self {
        self.finish = Some(finish);
        self
    }

    /// hyper stops polling a body whose declared length has been sent: the link must not wait for the last poll.
    fn release_when_ended(&mut self) {
        if let Kind::Proxied(incoming, link) = &mut self.kind
            && incoming.is_end_stream()
            && let Some(link) = link.take()
        {
            link.release();
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.kind {
            Kind::Full(content) => Poll::Ready(content.take().map(|b| Ok(Frame::data(b)))),
            Kind::Stream(body) => body.as_mut().poll_frame(cx),
            Kind::Proxied(incoming, Some(link)) => link.poll_frame(incoming, cx),
            Kind::Proxied(incoming, None) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
        };
        if let Poll::Ready(ended) = &frame {
            if let Some(Ok(frame)) = ended
                && let Some(data) = frame.data_ref()
                && let Some(finish) = &mut self.finish
            {
                finish.bytes += data.len() as u64;
            }
            self.release_when_ended();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(content) => content.is_none(),
            Kind::Proxied(incoming, _) => incoming.is_end_stream(),
            Kind::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(content) => SizeHint::with_exact(content.as_ref().map_or(0, |b| b.len() as u64)),
            Kind::Proxied(incoming, _) => incoming.size_hint(),
            Kind::Stream(body) => body.size_hint(),
        }
    }
}
