//! A request's body, whole: JSON is transcoded in one piece.

use crate::edge::{Code, Context, Problem};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};

/// Reads at most `limit` bytes, until the call's deadline.
pub(super) async fn whole(body: Incoming, limit: u64, context: &Context) -> Result<Bytes, Problem> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    // What says its size is refused before it is sent.
    if body.size_hint().lower() > limit {
        return Err(too_large(limit));
    }
    let read = tokio::time::timeout_at(context.deadline.into(), collect(body, limit)).await;
    read.unwrap_or_else(|_| {
        Err(Problem::new(Code::RequestTimeout, "The request's body did not arrive in time."))
    })
}

async fn collect(mut body: Incoming, limit: u64) -> Result<Bytes, Problem> {
    // Most bodies are one frame, which then needs no copy.
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(Code::Cancelled, "The request's body broke off."))?;
        let Ok(data) = frame.into_data() else { continue };
        if (first.len() + rest.len() + data.len()) as u64 > limit {
            return Err(too_large(limit));
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if !first.is_empty() {
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

pub(super) fn too_large(limit: u64) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("The body exceeds {limit} bytes."))
}

/// JSON, by name or by nothing said. Other types are refused, so that a form of a foreign page is never a call.
pub(super) fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(essence) = essence(headers) else { return Ok(()) };
    if essence == b"application/json" || (essence.starts_with(b"application/") && essence.ends_with(b"+json"))
    {
        return Ok(());
    }
    Err(Problem::new(Code::UnsupportedMediaType, "The body must be application/json."))
}

/// The media type without its parameters, in lower case.
pub(super) fn essence(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes)?;
    Some(value.split(|&b| b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase())
}
