//! A server-streaming method over HTTP: events, lines, an array, or raw content.
//!
//! The HTTP status is decided by the first message or the trailers, whichever comes first, for as long as
//! `first_event` allows. The upstream's stream lives in the response's body and nowhere else: when the client goes,
//! the body is dropped and the upstream sees the cancellation at once.

use super::{
    Endpoint, accept,
    events::Events,
    form::Form,
    messages::{Call, Messages},
    problems, request, unary,
};
use crate::edge::{Body, Context, Problem, headers::SERVER_TIMING};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use std::{sync::Arc, time::Instant};
use transcode::Matched;

pub(super) async fn serve(
    endpoint: &Arc<Endpoint>,
    matched: Matched,
    request: Request<Incoming>,
    context: &Context,
) -> Result<Response<Body>, Problem> {
    let (head, body) = request.into_parts();
    let form = if matched.answers_http_body() { Form::Raw } else { accept::stream(&head.headers)? };
    let matched = Arc::new(matched);
    let (body, uplink) = request::body(endpoint, &matched, &head, body, context).await?;
    if head.method == Method::HEAD {
        return Ok(respond(form, Body::empty()));
    }
    let progress = uplink.as_ref().map(|uplink| Arc::clone(&uplink.progress));
    let started = Instant::now();
    let mut messages = Call::new(endpoint, context).open(body, uplink);
    let first = first(endpoint, form, &mut messages, started, context).await;
    context.set_upstream_time(started.elapsed());
    let first = first?;
    let timing = messages.timing.take();
    let mut events = Events::new(endpoint, matched, form, messages, progress, context);
    let mut described = HeaderMap::new();
    match first {
        First::Message(message) => {
            if form == Form::Raw {
                let content = events.content(&message)?;
                unary::describe(&content, &mut described);
            }
            events.put(&message)?;
        }
        First::End => events.end(),
        First::Late => {}
    }
    let mut response = respond(form, Body::stream(events));
    response.headers_mut().extend(described);
    if let Some(timing) = timing {
        response.headers_mut().insert(SERVER_TIMING, timing);
    }
    Ok(response)
}

/// What decides the status.
enum First {
    Message(Bytes),
    End,
    /// Nothing yet: the client should not wait longer for the head.
    Late,
}

async fn first(
    endpoint: &Endpoint,
    form: Form,
    messages: &mut Messages,
    started: Instant,
    context: &Context,
) -> Result<First, Problem> {
    // The first message of raw content also says its type, so there is no head without it.
    let patience = match form {
        Form::Raw => context.deadline,
        _ => context.deadline.min(started + endpoint.limits.first_event),
    };
    match tokio::time::timeout_at(patience.into(), messages.next()).await {
        Ok(Some(message)) => message.map(First::Message),
        Ok(None) => Ok(First::End),
        Err(_) if Instant::now() >= context.deadline => Err(problems::timed_out()),
        Err(_) => Ok(First::Late),
    }
}

fn respond(form: Form, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Other proxies on the way must not buffer either.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
