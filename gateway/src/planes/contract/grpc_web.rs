//! gRPC-Web: gRPC over any HTTP, for browsers. Messages pass opaque; the trailers become the body's last frame, and
//! bodies of the text form are base64.

use super::{
    Endpoint, problems,
    wire::{self, Answer, Ending, Exchange, Messages, Recode, Upload},
};
use crate::edge::{Body, BodyError, Code, Context as CallContext, Problem, linger::Lingering};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Frame;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use transcode::{
    envelope::Decoder,
    grpc_web::{self, TextDecoder},
};

const BINARY: &str = "application/grpc-web";
const TEXT: &str = "application/grpc-web-text";

pub(super) async fn serve(
    endpoint: &Arc<Endpoint>,
    text: bool,
    request: Request<Lingering>,
    context: &CallContext,
) -> Result<Response<Body>, Problem> {
    let (head, body) = request.into_parts();
    expect_proto(&head.headers, if text { TEXT } else { BINARY })?;
    let exchange = Exchange::new(endpoint, context);
    let frames =
        Frames { text: text.then(TextDecoder::default), decoder: Decoder::new(endpoint.limits.body_bytes) };
    let upload = Upload::body(endpoint, body, frames, &exchange);
    match wire::open(endpoint, head.headers, upload, &exchange, context).await? {
        Answer::Status(headers) => Ok(respond(headers, Body::empty(), text)),
        Answer::Stream(headers, messages) => {
            Ok(respond(headers, Body::stream(Download { messages, text, ended: false }), text))
        }
    }
}

fn respond(headers: HeaderMap, body: Body, text: bool) -> Response<Body> {
    let mut response = Response::new(body);
    *response.headers_mut() = wire::passing(headers);
    let kind = if text { "application/grpc-web-text+proto" } else { "application/grpc-web+proto" };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Messages are protobuf, by name or by nothing said.
fn expect_proto(headers: &HeaderMap, form: &str) -> Result<(), Problem> {
    let value = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let essence = value.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    match essence.strip_prefix(form.as_bytes()) {
        Some(b"" | b"+proto") => Ok(()),
        _ => {
            let detail = format!("Messages of gRPC-Web are protobuf: the body must be {form}+proto.");
            Err(Problem::new(Code::UnsupportedMediaType, detail))
        }
    }
}

/// The request's messages: framed as in gRPC, in the text form base64.
struct Frames {
    text: Option<TextDecoder>,
    decoder: Decoder,
}

impl Recode for Frames {
    fn push(&mut self, piece: Bytes) -> Result<(), Problem> {
        let piece = match &mut self.text {
            Some(text) => text.push(&piece).map_err(|error| not_text(&error))?,
            None => piece,
        };
        self.decoder.push(piece);
        Ok(())
    }

    fn next_frame(&mut self) -> Result<Option<Bytes>, Problem> {
        self.decoder.next_frame().map_err(wire::misframed)
    }

    fn finish(&mut self) -> Result<(), Problem> {
        self.text.as_ref().map_or(Ok(()), TextDecoder::finish).map_err(|error| not_text(&error))?;
        self.decoder.finish().map_err(wire::misframed)
    }
}

fn not_text(error: &grpc_web::TextError) -> Problem {
    Problem::new(Code::InvalidArgument, problems::capitalised(&error.to_string()))
}

/// The response's body.
struct Download {
    messages: Messages,
    text: bool,
    ended: bool,
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = match ready!(self.messages.poll_next(cx, Decoder::frames)) {
            Ok(frames) => {
                self.messages.given();
                frames
            }
            Err(ending) => {
                self.ended = true;
                grpc_web::trailers_frame(&match ending {
                    Ending::Trailers(trailers) => wire::passing(trailers),
                    Ending::Failed(problem) => problem.trailers(),
                })
            }
        };
        Poll::Ready(Some(Ok(Frame::data(if self.text { grpc_web::encode_text(&piece) } else { piece }))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
