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

/// The connection behind a proxied body, which takes itself back when the body has ended.
pub trait Link: Send {
    /// Polls the body.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>>;
    /// Whether nothing more will come.
    fn has_ended(&self) -> bool;
    /// How much is to come.
    fn size_hint(&self) -> SizeHint;
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
    /// `None` once it has ended.
    Linked(Option<Box<dyn Link>>),
    Incoming(Incoming),
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
    pub fn linked(link: Box<dyn Link>) -> Self {
        let mut body = Self { kind: Kind::Linked(Some(link)), finish: None };
        body.release_when_ended();
        body
    }

    /// A body from a connection that runs elsewhere; trailers pass.
    pub fn incoming(incoming: Incoming) -> Self {
        Self { kind: Kind::Incoming(incoming), finish: None }
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
        if let Kind::Linked(link) = &mut self.kind
            && let Some(ended) = link.take_if(|link| link.has_ended())
        {
            ended.release();
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
            Kind::Linked(Some(link)) => link.poll_frame(cx),
            Kind::Linked(None) => Poll::Ready(None),
            Kind::Incoming(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
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
            Kind::Linked(link) => link.is_none(),
            Kind::Incoming(incoming) => incoming.is_end_stream(),
            Kind::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(content) => SizeHint::with_exact(content.as_ref().map_or(0, |b| b.len() as u64)),
            Kind::Linked(link) => {
                link.as_ref().map_or_else(|| SizeHint::with_exact(0), |link| link.size_hint())
            }
            Kind::Incoming(incoming) => incoming.size_hint(),
            Kind::Stream(body) => body.size_hint(),
        }
    }
}
