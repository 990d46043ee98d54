//! What the upstream answers for `lab.v1.StreamService`.

use super::{Cancellation, Content, Sample, Seen, frame, refuse, response, trailers, whole};
use bytes::{Buf, BytesMut};
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use prost::Message;
use std::{future::pending, sync::Arc};

/// `lab.v1.From`.
#[derive(Clone, PartialEq, Message)]
pub struct From {
    #[prost(int64, tag = "1")]
    pub after: i64,
    #[prost(int32, tag = "2")]
    pub count: i32,
}

/// `lab.v1.Tick`.
#[derive(Clone, PartialEq, Message)]
pub struct Tick {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(string, tag = "2")]
    pub text: String,
}

/// `google.api.HttpBody`.
#[derive(Clone, PartialEq, Message)]
pub struct HttpBody {
    #[prost(string, tag = "1")]
    pub content_type: String,
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
}

/// `lab.v1.Blob`.
#[derive(Clone, PartialEq, Message)]
pub struct Blob {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub content: Option<HttpBody>,
}

/// A request's messages, as they come.
struct Requests {
    body: Incoming,
    buffer: BytesMut,
}

impl Requests {
    /// The next one; `Err` where the call was reset.
    async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, ()> {
        loop {
            if self.buffer.len() >= 5 {
                let length = (&self.buffer[1..]).get_u32() as usize;
                if self.buffer.len() >= 5 + length {
                    self.buffer.advance(5);
                    return Ok(Some(M::decode(self.buffer.split_to(length)).unwrap()));
                }
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => self.buffer.extend_from_slice(&frame.map_err(drop)?.into_data().unwrap()),
            }
        }
    }
}

pub(super) async fn answer(method: &str, body: Incoming, seen: Arc<Seen>) -> Response<Content> {
    let requests = Requests { body, buffer: BytesMut::new() };
    match method {
        "Collect" => collect(requests, seen).await,
        "Converse" => response(echo(requests, seen)),
        "Follow" => follow(requests).await,
        "Upload" => upload(requests, seen).await,
        "Store" => store(requests).await,
        "Download" => response(download(requests, seen).await),
        _ => unreachable!("{method}"),
    }
}

fn one(message: &impl Message) -> Response<Content> {
    response(whole(vec![frame(&message.encode_to_vec())]))
}

/// The first text, how many there were, and all texts. "refuse" is refused at once, "ignore" is never read on.
async fn collect(mut requests: Requests, seen: Arc<Seen>) -> Response<Content> {
    let mut cancellation = Cancellation(Some(Arc::clone(&seen)));
    let mut samples: Vec<Sample> = vec![];
    loop {
        match requests.next::<Sample>().await {
            Ok(Some(sample)) if sample.text == "refuse" => {
                cancellation.disarm();
                return refuse();
            }
            Ok(Some(sample)) if sample.text == "ignore" => pending().await,
            Ok(Some(sample)) => samples.push(sample),
            Ok(None) => break,
            // The guard says so.
            Err(()) => return refuse(),
        }
        seen.read();
    }
    cancellation.disarm();
    let number = i32::try_from(samples.len()).unwrap();
    let text = samples.first().map(|sample| sample.text.clone()).unwrap_or_default();
    one(&Sample { text, number, list: samples.into_iter().map(|sample| sample.text).collect() })
}

/// Each message as it comes; "fail" ends the call with a failure, "last" with success, "ignore" is never read on.
fn echo(requests: Requests, seen: Arc<Seen>) -> Content {
    let cancellation = Cancellation(Some(Arc::clone(&seen)));
    let state = Some((requests, cancellation, seen));
    let body = stream::unfold(state, |state| async {
        let (mut requests, mut cancellation, seen) = state?;
        let next = match requests.next::<Sample>().await {
            Ok(Some(sample)) if sample.text == "fail" => Frame::trailers(trailers("14")),
            Ok(Some(sample)) if sample.text == "last" => Frame::trailers(trailers("0")),
            Ok(Some(sample)) if sample.text == "ignore" => pending().await,
            Ok(Some(sample)) => {
                seen.read();
                Frame::data(frame(&sample.encode_to_vec()))
            }
            Ok(None) => Frame::trailers(trailers("0")),
            Err(()) => return None,
        };
        if next.is_trailers() {
            cancellation.disarm();
            return Some((Ok(next), None));
        }
        Some((Ok(next), Some((requests, cancellation, seen))))
    });
    StreamBody::new(body).boxed()
}

/// `count` ticks after `after`.
async fn follow(mut requests: Requests) -> Response<Content> {
    let From { after, count } = requests.next().await.unwrap().unwrap();
    let ticks = (1..=i64::from(count)).map(|n| Tick { id: after + n, text: "tick".into() });
    response(whole(ticks.map(|tick| frame(&tick.encode_to_vec())).collect()))
}

/// The content's type, its size, and the size and place of each piece.
async fn upload(mut requests: Requests, seen: Arc<Seen>) -> Response<Content> {
    let mut cancellation = Cancellation(Some(Arc::clone(&seen)));
    let mut answer = Sample::default();
    loop {
        match requests.next::<Blob>().await {
            Ok(Some(blob)) => {
                let content = blob.content.unwrap_or_default();
                answer.number += i32::try_from(content.data.len()).unwrap();
                answer.text += &content.content_type;
                answer.list.push(format!("{}{}", blob.name, content.data.len()));
                seen.read();
            }
            Ok(None) => break,
            Err(()) => return refuse(),
        }
    }
    cancellation.disarm();
    one(&answer)
}

/// The content again; its name is its type where that is a bad one. "refuse" fails and shows it in its failure.
async fn store(mut requests: Requests) -> Response<Content> {
    let blob: Blob = requests.next().await.unwrap().unwrap();
    let mut content = blob.content.unwrap_or_default();
    if blob.name == "refuse" {
        let (content_type, data) = (content.content_type, content.data.into());
        return super::refuse_with(Some(transcode::HttpBody { content_type, data }));
    }
    if blob.name == "bad" {
        content.content_type = "text/html\r\nset-cookie: a=b".into();
    }
    one(&content)
}

/// `number` pieces of text; "fail" fails after them, "silent" says nothing more.
async fn download(mut requests: Requests, seen: Arc<Seen>) -> Content {
    let sample: Sample = requests.next().await.unwrap().unwrap();
    let cancellation = Cancellation(Some(seen));
    let body = stream::unfold((0, sample, cancellation), |(index, sample, mut cancellation)| async move {
        let next = match sample.text.as_str() {
            _ if index < sample.number => {
                let data = format!("data: {index}\n\n").into_bytes();
                let content_type = if index == 0 { "text/event-stream" } else { "" };
                let message = HttpBody { content_type: content_type.into(), data };
                Frame::data(frame(&message.encode_to_vec()))
            }
            "silent" => pending().await,
            _ if index > sample.number => return None,
            text => {
                cancellation.disarm();
                Frame::trailers(trailers(if text == "fail" { "14" } else { "0" }))
            }
        };
        Some((Ok(next), (index + 1, sample, cancellation)))
    });
    StreamBody::new(body).boxed()
}
