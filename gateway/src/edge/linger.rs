//! A request's body that is read on for a while when nobody wants it any more.
//!
//! A client of HTTP/1.1 that still sends when its answer comes gets a reset instead of the answer, since the connection
//! is closed with bytes unread. What is small or all but there is worth reading.

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// What is read for nothing at most, in bytes …
const BYTES: usize = 256 << 10;
/// … and in time.
const TIME: Duration = Duration::from_secs(1);

/// The body; dropped before its end, it is read on within bounds.
pub struct Lingering {
    /// None once it is dropped.
    body: Option<Incoming>,
    version: Version,
}

impl Lingering {
    /// The body of a request of this version. HTTP/2 ends one stream without the others.
    pub fn new(body: Incoming, version: Version) -> Self {
        Self { body: Some(body), version }
    }
}

async fn read_on(mut body: Incoming) {
    let mut left = BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let Some(body) =
            self.body.take().filter(|body| self.version != Version::HTTP_2 && !body.is_end_stream())
        {
            tokio::spawn(tokio::time::timeout(TIME, read_on(body)));
        }
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
