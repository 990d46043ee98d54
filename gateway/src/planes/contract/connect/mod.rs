//! Connect (<https://connectrpc.com/docs/protocol>): unary calls that look like any HTTP request, and streams whose last
//! message is their status. Messages are protobuf, passed on as they are, or JSON, transcoded.

mod stream;
mod unary;

use super::{
    Endpoint,
    coding::{GZIP, WORTH_COMPRESSING, accepts_gzip, decompress},
    problems, wire,
};
use crate::edge::{Body, Code, Context, Problem, linger::Lingering, problem::Style};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use std::sync::Arc;
use transcode::connect::{self, Codec, Get};

const VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");
const TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");
const STREAM_ENCODING: HeaderName = HeaderName::from_static("connect-content-encoding");
const STREAM_ACCEPT: HeaderName = HeaderName::from_static("connect-accept-encoding");

/// Whether a request at a method's path is a unary call: any `POST`, so that one of a wrong type is told so, and a `GET`
/// that brings a message.
pub(super) fn is_meant<B>(request: &Request<B>) -> bool {
    match *request.method() {
        Method::POST => true,
        Method::GET => Get::is_meant(request.uri().query()),
        _ => false,
    }
}

pub(super) async fn serve(
    endpoint: &Arc<Endpoint>,
    style: Style,
    request: Request<Lingering>,
    context: &Context,
) -> Result<Response<Body>, Problem> {
    let headers = request.headers();
    if headers.get(VERSION).is_some_and(|version| version != "1") {
        return Err(invalid("connect-protocol-version: expected 1."));
    }
    if headers.get(TIMEOUT).is_some_and(|timeout| connect::timeout(timeout.as_bytes()).is_none()) {
        return Err(invalid("connect-timeout-ms: expected 1 to 10 digits."));
    }
    let method = &endpoint.method;
    match (style, method.is_client_streaming() || method.is_server_streaming()) {
        (Style::ConnectStream(codec), true) => stream::serve(endpoint, codec, request, context).await,
        (Style::ConnectStream(_), false) => {
            Err(unsupported("The method is unary: use application/json or application/proto."))
        }
        (_, false) => unary::serve(endpoint, request, context).await,
        (_, true) => {
            Err(unsupported("The method streams: use application/connect+json or application/connect+proto."))
        }
    }
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidArgument, detail.into())
}

fn unsupported(detail: &'static str) -> Problem {
    Problem::new(Code::UnsupportedMediaType, detail)
}

/// Whether messages are compressed with gzip, by the name of their encoding.
fn is_gzip(name: &[u8]) -> Result<bool, Problem> {
    match name {
        b"" | b"identity" => Ok(false),
        b"gzip" => Ok(true),
        _ => {
            let name = String::from_utf8_lossy(name);
            let detail = format!("Unknown compression {name:?}: supported are gzip and identity.");
            Err(Problem::new(Code::Unimplemented, detail))
        }
    }
}

fn encoding<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a [u8] {
    headers.get(name).map_or(&b""[..], HeaderValue::as_bytes)
}

/// A client's message as protobuf.
fn to_proto(endpoint: &Endpoint, codec: Codec, message: Bytes) -> Result<Bytes, Problem> {
    match codec {
        Codec::Proto => Ok(message),
        Codec::Json => {
            let read = endpoint.method.request_from_json(&message);
            read.map(Bytes::from).map_err(|error| problems::from_transcode(endpoint, &error))
        }
    }
}

/// An upstream's message as the client reads it.
fn from_proto(endpoint: &Endpoint, codec: Codec, message: Bytes) -> Result<Bytes, Problem> {
    match codec {
        Codec::Proto => Ok(message),
        Codec::Json => {
            let mut json = Vec::with_capacity(message.len() * 2 + 64);
            let written = endpoint.method.response_to_json(&message, &mut json);
            written.map_err(|error| problems::from_transcode(endpoint, &error))?;
            Ok(json.into())
        }
    }
}

/// What the upstream may see of the client's headers: not those of Connect's framing.
fn request_metadata(mut headers: HeaderMap) -> HeaderMap {
    let framing = |name: &str| name.starts_with("connect-") || name.starts_with("grpc-");
    remove(&mut headers, framing);
    headers
}

/// The upstream's own metadata in its headers or trailers: not those of gRPC's framing.
fn metadata(headers: HeaderMap) -> HeaderMap {
    let mut headers = wire::passing(headers);
    headers.remove(header::CONTENT_TYPE);
    let framing = |name: &str| {
        name.starts_with("grpc-") || name.starts_with("content-") || name.ends_with("accept-encoding")
    };
    remove(&mut headers, framing);
    headers
}

fn remove(headers: &mut HeaderMap, doomed: impl Fn(&str) -> bool) {
    let doomed: Vec<_> = headers.keys().filter(|name| doomed(name.as_str())).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}
