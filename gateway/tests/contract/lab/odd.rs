//! What an upstream does that is rare: it gathers, floods, tears a message, says nothing of its status, or too much.

use super::{Cancellation, Content, Sample, Seen, frame, messages, response, trailers, whole};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use std::{
    convert::Infallible,
    future::pending,
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// Larger than the limit of the gateway in front.
pub const HUGE: usize = 20_000;

pub(super) fn answer(path: &str, body: &Bytes, seen: &Arc<Seen>) -> Option<Response<Content>> {
    if path.ends_with("/Gather") {
        let list: Vec<_> = messages(body).into_iter().map(|sample| sample.text).collect();
        let gathered = Sample { number: i32::try_from(list.len()).unwrap(), list, ..Sample::default() };
        return Some(response(whole(vec![frame(&gathered.encode_to_vec())])));
    }
    let first = messages(body).into_iter().next()?;
    let message = frame(&first.encode_to_vec());
    let half = &message[..message.len() / 2];
    let parts = match first.text.as_str() {
        "huge" => {
            let large = Sample { text: "x".repeat(HUGE), ..first.clone() };
            vec![data(&message), data(&frame(&large.encode_to_vec())), ended()]
        }
        // One that compresses well and fits the limit.
        "large" => {
            let large = Sample { text: "x".repeat(8000), ..first.clone() };
            vec![data(&frame(&large.encode_to_vec())), ended()]
        }
        "split" => message.chunks(1).map(data).chain([ended()]).collect(),
        "mute" => vec![data(&message)],
        "cut" => vec![data(&message), data(half), ended()],
        // Half a message, and then nothing.
        "torn" => {
            let begun = [data(&message), data(half)].map(Ok::<_, Infallible>);
            let body = stream::iter(begun).chain(stream::once(pending()));
            return Some(response(BodyExt::boxed(StreamBody::new(body))));
        }
        "flood" => return Some(response(flood(&first, seen))),
        _ => return None,
    };
    Some(response(BodyExt::boxed(StreamBody::new(stream::iter(parts.into_iter().map(Ok))))))
}

fn data(bytes: &[u8]) -> Frame<Bytes> {
    Frame::data(Bytes::copy_from_slice(bytes))
}

fn ended() -> Frame<Bytes> {
    Frame::trailers(trailers("0"))
}

/// As many messages as are asked for; each is counted when it is taken.
fn flood(sample: &Sample, seen: &Arc<Seen>) -> Content {
    let message = frame(&sample.encode_to_vec());
    let (seen, cancellation) = (Arc::clone(seen), Cancellation(Some(Arc::clone(seen))));
    let messages = stream::iter(0..sample.number).map(move |_| {
        let _ = &cancellation;
        seen.produced.fetch_add(1, Relaxed);
        Ok(Frame::data(message.clone()))
    });
    BodyExt::boxed(StreamBody::new(messages.chain(stream::once(async { Ok(ended()) }))))
}
