//! The request's body on its way to the upstream.

use super::{Endpoint, Exchange, problems::capitalised};
use crate::edge::{BodyError, Code, Problem, linger::Lingering};
use bytes::Bytes;
use http_body::{Body, Frame};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

/// Makes gRPC's frames of a client's body.
pub(in super::super) trait Recode: Send + Unpin + 'static {
    /// Takes the next piece.
    fn push(&mut self, piece: Bytes) -> Result<(), Problem>;
    /// The next message's frame, if it is there.
    fn next_frame(&mut self) -> Result<Option<Bytes>, Problem>;
    /// The body has ended.
    fn finish(&mut self) -> Result<(), Problem>;
}

/// The body. What is wrong with it is left in the exchange, and resets the call.
pub(in super::super) struct Upload<R> {
    body: Lingering,
    recode: R,
    exchange: Arc<Exchange>,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whether the method takes more than one message.
    streaming: bool,
    messages: u64,
    ended: bool,
}

impl<R: Recode> Upload<R> {
    pub(in super::super) fn body(
        endpoint: &Endpoint,
        body: Lingering,
        recode: R,
        exchange: &Arc<Exchange>,
    ) -> tonic::body::Body {
        tonic::body::Body::new(Self {
            body,
            recode,
            over: Box::pin(exchange.over.clone().cancelled_owned()),
            exchange: Arc::clone(exchange),
            streaming: endpoint.method.is_client_streaming(),
            messages: 0,
            ended: false,
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Problem>> {
        loop {
            if let Some(frame) = self.recode.next_frame()? {
                self.messages += 1;
                if self.messages > 1 && !self.streaming {
                    return Poll::Ready(Err(cardinality()));
                }
                self.exchange.moved();
                return Poll::Ready(Ok(Some(frame)));
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(piece) = frame.into_data() {
                        self.recode.push(piece)?;
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let detail = capitalised(&format!("the request's body broke off: {error}"));
                    return Poll::Ready(Err(Problem::new(Code::Cancelled, detail)));
                }
                Poll::Ready(None) => {
                    self.ended = true;
                    self.recode.finish()?;
                    if self.messages == 0 && !self.streaming {
                        return Poll::Ready(Err(cardinality()));
                    }
                }
                Poll::Pending => {
                    std::task::ready!(self.over.as_mut().poll(cx));
                    return Poll::Ready(Err(Problem::new(Code::Cancelled, "The call is over.")));
                }
            }
        }
    }
}

fn cardinality() -> Problem {
    Problem::new(Code::Unimplemented, "The method takes exactly one message.")
}

impl<R: Recode> Body for Upload<R> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll(cx).map(|polled| match polled {
            Ok(frame) => frame.map(|frame| Ok(Frame::data(frame))),
            Err(problem) => {
                self.exchange.refuse(problem);
                Some(Err("the request's body cannot be passed on".into()))
            }
        })
    }
}
