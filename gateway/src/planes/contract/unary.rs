//! A method with one answer, over HTTP: as JSON, or as the raw content that it holds.

use super::{
    Endpoint, accept, coding,
    messages::{Call, Messages},
    problems, request,
    upload::Progress,
};
use crate::edge::{Body, Code, Context, Problem, headers::SERVER_TIMING};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use transcode::{HttpBody, Matched};

pub(super) async fn serve(
    endpoint: &Arc<Endpoint>,
    matched: Matched,
    request: Request<Incoming>,
    context: &Context,
) -> Result<Response<Body>, Problem> {
    let (head, body) = request.into_parts();
    let raw = matched.answers_http_body();
    if !raw {
        accept::json(&head.headers)?;
    }
    let matched = Arc::new(matched);
    let (body, uplink) = request::body(endpoint, &matched, &head, body, context).await?;
    let progress = uplink.as_ref().map(|uplink| Arc::clone(&uplink.progress));
    let started = Instant::now();
    let mut messages = Call::new(endpoint, context).open(body, uplink);
    let answer = single(&mut messages, progress, endpoint.limits.stream_idle, context).await;
    context.set_upstream_time(started.elapsed());
    let (message, head_only) = (answer?, head.method == Method::HEAD);
    let transcoded = |error| problems::from_transcode(endpoint, &error);
    let mut headers = HeaderMap::with_capacity(8);
    let content = if raw {
        let content = matched.decode_http_body(&message).map_err(transcoded)?;
        describe(&content, &mut headers);
        content.data
    } else {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let json = matched.decode_response(&message).map_err(transcoded)?;
        coding::encoded(&head.headers, json, &mut headers).into()
    };
    if let Some(timing) = messages.timing.take() {
        headers.insert(SERVER_TIMING, timing);
    }
    Ok(respond(content, headers, head_only))
}

/// The answer's message. While the request is still being sent, silence of `idle` ends it; the deadline always does.
async fn single(
    messages: &mut Messages,
    progress: Option<Arc<Progress>>,
    idle: Duration,
    context: &Context,
) -> Result<Bytes, Problem> {
    let deadline = context.deadline;
    let mut single = pin!(messages.single());
    loop {
        let until = if progress.is_some() { deadline.min(Instant::now() + idle) } else { deadline };
        match (tokio::time::timeout_at(until.into(), &mut single).await, &progress) {
            (Ok(answer), _) => return answer,
            (Err(_), Some(progress)) if Instant::now() < deadline => {
                if !progress.moved() {
                    return Err(if progress.ended() { problems::timed_out() } else { silent() });
                }
            }
            (Err(_), _) => return Err(problems::timed_out()),
        }
    }
}

fn silent() -> Problem {
    Problem::new(Code::RequestTimeout, "Nothing more of the request arrived in time.")
}

fn respond(content: Bytes, mut headers: HeaderMap, head_only: bool) -> Response<Body> {
    if head_only {
        headers.insert(header::CONTENT_LENGTH, content.len().into());
    }
    let mut response = Response::new(if head_only { Body::empty() } else { Body::full(content) });
    *response.headers_mut() = headers;
    response
}

/// The headers of raw content: its type if that is one, and no guessing of another.
pub(super) fn describe(content: &HttpBody, headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, content_type(content));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// The stated type if that is one.
pub(super) fn content_type(content: &HttpBody) -> HeaderValue {
    let stated = Some(content.content_type.as_str()).filter(|text| text.contains('/'));
    let stated = stated.and_then(|text| HeaderValue::try_from(text).ok());
    stated.unwrap_or_else(|| HeaderValue::from_static("application/octet-stream"))
}
