//! A unary method as JSON over HTTP.

use super::{Endpoint, headers, problems, read};
use crate::{
    edge::{Body, Context, Problem, headers::SERVER_TIMING},
    upstream::grpc::{Channel, RawCodec},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use std::time::Instant;
use tonic::{client::Grpc, metadata::MetadataMap};
use transcode::Matched;

pub(super) async fn serve(
    endpoint: &Endpoint,
    matched: &Matched,
    request: Request<Incoming>,
    context: &Context,
) -> Result<Response<Body>, Problem> {
    let (head, body) = request.into_parts();
    let message = message(endpoint, matched, &head, body, context).await?;
    let call = prepare(endpoint, message, context);
    let started = Instant::now();
    let path = endpoint.method.grpc_path().clone();
    let mut client = client(endpoint);
    let answer = tokio::time::timeout_at(context.deadline.into(), client.unary(call, path, RawCodec)).await;
    context.set_upstream_time(started.elapsed());
    let answer = answer.map_err(|_| problems::timed_out())?;
    let (metadata, message, _) =
        answer.map_err(|status| problems::from_status(endpoint, &status))?.into_parts();
    let json =
        matched.decode_response(&message).map_err(|error| problems::from_transcode(endpoint, &error))?;
    Ok(respond(json, &metadata, head.method == Method::HEAD))
}

/// The request's protobuf message.
pub(super) async fn message(
    endpoint: &Endpoint,
    matched: &Matched,
    head: &http::request::Parts,
    body: Incoming,
    context: &Context,
) -> Result<Bytes, Problem> {
    if matched.takes_body() {
        read::expect_json(&head.headers)?;
    }
    let body = read::whole(body, endpoint.limits.body_bytes, context).await?;
    let encoded = matched.encode_request(head.uri.query(), &body);
    encoded.map(Bytes::from).map_err(|error| problems::from_transcode(endpoint, &error))
}

pub(super) fn client(endpoint: &Endpoint) -> Grpc<Channel> {
    // An answer is bounded as a request is.
    let limit = usize::try_from(endpoint.limits.body_bytes).unwrap_or(usize::MAX);
    Grpc::new(Channel::new(&endpoint.pool)).max_decoding_message_size(limit)
}

pub(super) fn prepare(endpoint: &Endpoint, message: Bytes, context: &Context) -> tonic::Request<Bytes> {
    let mut metadata = http::HeaderMap::with_capacity(8);
    headers::write(&mut metadata, endpoint, context);
    tonic::Request::from_parts(MetadataMap::from_headers(metadata), tonic::Extensions::default(), message)
}

fn respond(json: Vec<u8>, metadata: &MetadataMap, head_only: bool) -> Response<Body> {
    let length = json.len();
    let mut response = Response::new(if head_only { Body::empty() } else { Body::full(json) });
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if head_only {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    if let Some(timing) = metadata.as_ref().get(SERVER_TIMING) {
        headers.insert(SERVER_TIMING, timing.clone());
    }
    response
}
