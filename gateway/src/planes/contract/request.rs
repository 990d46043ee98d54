//! A request as what is sent to the upstream: one message, or a stream of them.

use super::{
    Endpoint, coding,
    lines::{Written, written},
    problems, read,
    upload::{self, Uplink, Upload},
};
use crate::edge::{Code, Context, Problem};
use http::{HeaderMap, header, request::Parts};
use hyper::body::Incoming;
use std::sync::Arc;
use transcode::{HttpBody, Matched};

/// The body of the call; with its other end, where the request goes on while the upstream answers.
pub(super) async fn body(
    endpoint: &Arc<Endpoint>,
    matched: &Arc<Matched>,
    head: &Parts,
    incoming: Incoming,
    context: &Context,
) -> Result<(tonic::body::Body, Option<Uplink>), Problem> {
    let query = head.uri.query();
    if endpoint.method.is_client_streaming() && matched.takes_body() {
        if matched.takes_http_body() {
            let content_type = content_type(&head.headers);
            let (body, uplink) = Upload::raw(endpoint, matched, query, content_type, incoming);
            return Ok((body, Some(uplink)));
        }
        if written(&head.headers)? == Written::Lines {
            let (body, uplink) = Upload::lines(endpoint, matched, query, incoming);
            return Ok((body, Some(uplink)));
        }
    }
    let message = message(endpoint, matched, head, incoming, context).await?;
    Ok((upload::single(&message), None))
}

/// The one message of a request that has no more.
async fn message(
    endpoint: &Endpoint,
    matched: &Matched,
    head: &Parts,
    incoming: Incoming,
    context: &Context,
) -> Result<Vec<u8>, Problem> {
    let (query, raw) = (head.uri.query(), matched.takes_http_body());
    if matched.takes_body() && !raw {
        read::expect_json(&head.headers)?;
    }
    let limit = endpoint.limits.body_bytes;
    let data = read::whole(incoming, limit, context).await?;
    // Raw content goes on as it came.
    let data = if raw { data } else { coding::decoded(&head.headers, data, limit)? };
    let encoded = if raw {
        matched.encode_http_body(query, &HttpBody { content_type: content_type(&head.headers), data })
    } else {
        matched.encode_request(query, &data)
    };
    let mut message = encoded.map_err(|error| problems::from_transcode(endpoint, &error))?;
    if endpoint.method.is_server_streaming() {
        resume(endpoint, matched, &head.headers, &mut message)?;
    }
    Ok(message)
}

/// A browser that reconnects says which event it has seen last.
pub(super) fn resume(
    endpoint: &Endpoint,
    matched: &Matched,
    headers: &HeaderMap,
    message: &mut Vec<u8>,
) -> Result<(), Problem> {
    let Some(id) = headers.get("last-event-id") else { return Ok(()) };
    let id = std::str::from_utf8(id.as_bytes())
        .map_err(|_| Problem::new(Code::InvalidArgument, "Last-Event-ID is not UTF-8."))?;
    if id.is_empty() {
        return Ok(());
    }
    matched.resume(message, id).map_err(|error| problems::from_transcode(endpoint, &error))
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
