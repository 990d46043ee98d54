//! A request stream that somebody else feeds, one message ahead at most.

use super::upload;
use crate::edge::BodyError;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::sync::mpsc;

/// What goes to a call by hand: messages, and the end where there is one. Gone without it, the call is reset.
pub(super) enum Item {
    Message(Bytes),
    End,
}

pub(super) struct Piped {
    items: mpsc::Receiver<Item>,
    ended: bool,
}

pub(super) fn piped() -> (mpsc::Sender<Item>, tonic::body::Body) {
    let (sender, items) = mpsc::channel(1);
    (sender, tonic::body::Body::new(Piped { items, ended: false }))
}

impl Body for Piped {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.items.poll_recv(cx)) {
            Some(Item::Message(message)) => {
                let mut frame = Vec::with_capacity(message.len() + 5);
                upload::append(&message, &mut frame);
                Some(Ok(Frame::data(frame.into())))
            }
            Some(Item::End) => {
                self.ended = true;
                None
            }
            None => Some(Err("the client has left".into())),
        })
    }
}
