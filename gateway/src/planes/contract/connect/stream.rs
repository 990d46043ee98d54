//! A stream in either direction or both: enveloped messages, and at the end one that says how it ended.

use super::{
    GZIP, STREAM_ACCEPT, STREAM_ENCODING, WORTH_COMPRESSING, accepts_gzip, decompress, encoding, from_proto,
    invalid, is_gzip, metadata, request_metadata, to_proto,
};
use crate::{
    edge::{Body, BodyError, Code, Context as CallContext, Problem, linger::Lingering},
    planes::contract::{
        Endpoint,
        wire::{self, Answer, Ending, Exchange, Messages, Recode, Upload},
    },
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Frame;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use transcode::{
    connect::{self, Codec, Error},
    envelope::{self, COMPRESSED, Decoder, Envelope},
    gzip,
};

/// Messages that are there already share a write, up to this size.
const WRITE: usize = 16 << 10;

pub(super) async fn serve(
    endpoint: &Arc<Endpoint>,
    codec: Codec,
    request: Request<Lingering>,
    context: &CallContext,
) -> Result<Response<Body>, Problem> {
    let (head, body) = request.into_parts();
    let compressed = is_gzip(encoding(&head.headers, &STREAM_ENCODING))?;
    let compress = accepts_gzip(&head.headers, &STREAM_ACCEPT);
    let exchange = Exchange::new(endpoint, context);
    let decoder = Decoder::new(endpoint.limits.body_bytes);
    let envelopes = Envelopes { endpoint: Arc::clone(endpoint), codec, compressed, decoder };
    let upload = Upload::body(endpoint, body, envelopes, &exchange);
    let answer = wire::open(endpoint, request_metadata(head.headers), upload, &exchange, context).await?;
    let mut out = BytesMut::new();
    Ok(match answer {
        Answer::Status(headers) => {
            end(&Error::from_trailers(&headers).unwrap_or(Ok(())), metadata(headers), &mut out);
            respond(HeaderMap::new(), codec, compress, Body::full(out))
        }
        Answer::Stream(headers, messages) => {
            let endpoint = Arc::clone(endpoint);
            let download = Download { endpoint, messages, codec, compress, out, ended: false };
            respond(metadata(headers), codec, compress, Body::stream(download))
        }
    })
}

fn respond(headers: HeaderMap, codec: Codec, compress: bool, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(codec.stream_type()));
    headers.insert(STREAM_ACCEPT, GZIP);
    if compress {
        headers.insert(STREAM_ENCODING, GZIP);
    }
    response
}

/// Appends the message that ends the stream.
fn end(ended: &Result<(), Error>, trailers: HeaderMap, out: &mut BytesMut) {
    let end = connect::end_of_stream(ended.as_ref().err(), &trailers);
    envelope::put(connect::END_STREAM, &end, out);
}

/// The request's messages.
struct Envelopes {
    endpoint: Arc<Endpoint>,
    codec: Codec,
    /// What the compressed flag means: gzip, or a mistake.
    compressed: bool,
    decoder: Decoder,
}

impl Recode for Envelopes {
    fn push(&mut self, piece: Bytes) -> Result<(), Problem> {
        self.decoder.push(piece);
        Ok(())
    }

    fn next_frame(&mut self) -> Result<Option<Bytes>, Problem> {
        let Some(Envelope { compressed, data }) = self.decoder.next_envelope().map_err(wire::misframed)?
        else {
            return Ok(None);
        };
        let message = match (compressed, self.compressed) {
            (true, true) => decompress(&data, self.endpoint.limits.body_bytes)?,
            (true, false) => {
                return Err(invalid("A message is compressed without connect-content-encoding."));
            }
            (false, _) => data,
        };
        Ok(Some(envelope::frame(0, &to_proto(&self.endpoint, self.codec, message)?)))
    }

    fn finish(&mut self) -> Result<(), Problem> {
        self.decoder.finish().map_err(wire::misframed)
    }
}

/// The response's body.
struct Download {
    endpoint: Arc<Endpoint>,
    messages: Messages,
    codec: Codec,
    compress: bool,
    out: BytesMut,
    ended: bool,
}

impl Download {
    /// Takes the messages that are there.
    fn poll_messages(&mut self, cx: &mut Context<'_>) {
        while !self.ended && self.out.len() < WRITE {
            let Poll::Ready(next) = self.messages.poll_next(cx, Decoder::next_envelope) else { return };
            let put = match next {
                Ok(envelope) => self.put(envelope),
                Err(Ending::Failed(problem)) => Err(problem),
                Err(Ending::Trailers(trailers)) => {
                    self.ended = true;
                    let ended = Error::from_trailers(&trailers).unwrap_or(Ok(()));
                    end(&ended, metadata(trailers), &mut self.out);
                    return;
                }
            };
            if let Err(problem) = put {
                self.ended = true;
                self.messages.stop();
                end(&Err(problem.connect()), HeaderMap::new(), &mut self.out);
            }
        }
    }

    fn put(&mut self, envelope: Envelope) -> Result<(), Problem> {
        if envelope.compressed {
            let detail = "The upstream's message is compressed, which it was not asked for.";
            return Err(Problem::new(Code::BadGateway, detail));
        }
        let message = from_proto(&self.endpoint, self.codec, envelope.data)?;
        if self.compress && message.len() >= WORTH_COMPRESSING {
            envelope::put(COMPRESSED, &gzip::compress(&message), &mut self.out);
        } else {
            envelope::put(0, &message, &mut self.out);
        }
        Ok(())
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_messages(cx);
        if !self.out.is_empty() {
            self.messages.given();
            return Poll::Ready(Some(Ok(Frame::data(self.out.split().freeze()))));
        }
        if self.ended { Poll::Ready(None) } else { Poll::Pending }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.out.is_empty()
    }
}
