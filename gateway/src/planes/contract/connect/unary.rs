//! A unary call: the message is the body (or, for `GET`, in the query), the status is HTTP's.

use super::{
    GZIP, WORTH_COMPRESSING, accepts_gzip, decompress, encoding, from_proto, invalid, is_gzip, metadata,
    request_metadata, to_proto, unsupported,
};
use crate::{
    edge::{Body, Code, Context, Problem, headers::SERVER_TIMING, linger::Lingering},
    planes::contract::{
        Endpoint, read,
        wire::{self, Answer, Ending, Exchange, Messages},
    },
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header, request::Parts};
use http_body::Body as _;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use std::{future::poll_fn, sync::Arc};
use transcode::{
    connect::{self, Codec, Error, Get},
    envelope::{self, Decoder},
    gzip,
};

pub(super) async fn serve(
    endpoint: &Arc<Endpoint>,
    request: Request<Lingering>,
    context: &Context,
) -> Result<Response<Body>, Problem> {
    let (head, body) = request.into_parts();
    let (codec, message) = if head.method == Method::GET {
        from_query(endpoint, &head)?
    } else {
        from_body(endpoint, &head, body, context).await?
    };
    let message = to_proto(endpoint, codec, message)?;
    let accepts = accepts_gzip(&head.headers, &header::ACCEPT_ENCODING);
    let exchange = Exchange::new(endpoint, context);
    let upload = tonic::body::Body::new(Full::new(envelope::frame(0, &message)));
    let answer = wire::open(endpoint, request_metadata(head.headers), upload, &exchange, context).await?;
    let (headers, trailers, message) = match answer {
        Answer::Status(headers) => match Error::from_trailers(&headers) {
            Some(Err(error)) => return Ok(respond_error(&error, headers, HeaderMap::new())),
            _ => (headers, HeaderMap::new(), None),
        },
        Answer::Stream(mut headers, messages) => {
            let (message, mut trailers) = whole(messages).await?;
            // There is one head, which has come when all is over.
            if let Some(timing) = trailers.remove(SERVER_TIMING) {
                headers.insert(SERVER_TIMING, timing);
            }
            (headers, trailers, message)
        }
    };
    if let Some(Err(error)) = Error::from_trailers(&trailers) {
        return Ok(respond_error(&error, headers, trailers));
    }
    let message =
        message.ok_or_else(|| Problem::new(Code::BadGateway, "The upstream answered without a message."))?;
    Ok(respond(codec, from_proto(endpoint, codec, message)?, accepts, headers, trailers))
}

fn from_query(endpoint: &Endpoint, head: &Parts) -> Result<(Codec, Bytes), Problem> {
    if !endpoint.method.has_no_side_effects() {
        let problem = Problem::new(Code::MethodNotAllowed, "The method may have side effects: use POST.");
        return Err(problem.with_allow("POST".into()));
    }
    let get = Get::parse(head.uri.query().unwrap_or_default()).map_err(|error| invalid(error + "."))?;
    let mut message = Bytes::from(get.message);
    if is_gzip(get.compression.as_bytes())? {
        message = decompress(&message, endpoint.limits.body_bytes)?;
    }
    Ok((get.codec, message))
}

async fn from_body(
    endpoint: &Endpoint,
    head: &Parts,
    body: Lingering,
    context: &Context,
) -> Result<(Codec, Bytes), Problem> {
    let kind = encoding(&head.headers, &header::CONTENT_TYPE);
    let Some((codec, false)) = connect::content_type(kind) else {
        return Err(unsupported("The body must be application/json or application/proto."));
    };
    let compressed = is_gzip(encoding(&head.headers, &header::CONTENT_ENCODING))?;
    let limit = endpoint.limits.body_bytes;
    let mut message = read(body, limit, context).await?;
    if compressed {
        message = decompress(&message, limit)?;
    }
    Ok((codec, message))
}

/// The request's body, whole.
async fn read(body: Lingering, limit: u64, context: &Context) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > limit {
        return Err(read::too_large(limit));
    }
    let bounded = Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX));
    match tokio::time::timeout_at(context.deadline.into(), bounded.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(read::too_large(limit)),
        Ok(Err(_)) => Err(Problem::new(Code::Cancelled, "The request's body broke off.")),
        Err(_) => Err(Problem::new(Code::RequestTimeout, "The request's body did not arrive in time.")),
    }
}

/// The answer's message and its trailers.
async fn whole(mut messages: Messages) -> Result<(Option<Bytes>, HeaderMap), Problem> {
    let mut message = None;
    loop {
        match poll_fn(|cx| messages.poll_next(cx, Decoder::next_envelope)).await {
            Ok(envelope) if envelope.compressed || message.is_some() => {
                let detail = "The upstream's answer is not one message as it was asked for.";
                return Err(Problem::new(Code::BadGateway, detail));
            }
            Ok(envelope) => message = Some(envelope.data),
            Err(Ending::Trailers(trailers)) => return Ok((message, trailers)),
            Err(Ending::Failed(problem)) => return Err(problem),
        }
    }
}

fn respond(
    codec: Codec,
    message: Bytes,
    accepts: bool,
    headers: HeaderMap,
    trailers: HeaderMap,
) -> Response<Body> {
    let compress = accepts && message.len() >= WORTH_COMPRESSING;
    let message = if compress { gzip::compress(&message).into() } else { message };
    let mut response = Response::new(Body::full(message));
    *response.headers_mut() = all_metadata(headers, trailers);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(codec.unary_type()));
    headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    if compress {
        headers.insert(header::CONTENT_ENCODING, GZIP);
    }
    response
}

fn respond_error(error: &Error, headers: HeaderMap, trailers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::full(error.to_json()));
    *response.status_mut() = error.code.http_status();
    *response.headers_mut() = all_metadata(headers, trailers);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Leading metadata as it is, trailing metadata with Connect's prefix.
fn all_metadata(headers: HeaderMap, trailers: HeaderMap) -> HeaderMap {
    let mut all = metadata(headers);
    for (name, value) in &metadata(trailers) {
        // A name of a name's characters is one.
        if let Ok(name) = HeaderName::try_from(format!("trailer-{name}")) {
            all.append(name, value.clone());
        }
    }
    all
}
