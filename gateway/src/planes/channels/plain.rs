//! Publish and history as plain requests: one command of a caller without a session.

use super::{
    Limits, identity, problems,
    query::{number, pairs, refuse},
};
use crate::edge::{Body, Code, Context, Problem, linger::Lingering};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hub::{
    Hub,
    proto::{HistoryQuery, Position, Publish, command, server_message},
};
use hyper::body::Incoming;
use serde::Serialize;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// `POST {path}/publish`: the body is a Publish, the answer a Published.
pub(super) async fn publish(
    hub: &Hub,
    limits: Limits,
    request: Request<Incoming>,
    context: &Context,
) -> Result<Response<Body>, Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
    let is_json = media_type.is_none_or(|media_type| media_type.eq_ignore_ascii_case("application/json"));
    let version = request.version();
    let body = Lingering::new(request.into_body(), version);
    if !is_json {
        return Err(Problem::new(Code::UnsupportedMediaType, "Expected content-type: application/json."));
    }
    let body = read(body, limits.body_bytes, context).await?;
    let publish: Publish = serde_json::from_slice(&body)
        .map_err(|error| refuse(format!("The body is not a publish: {error}.")))?;
    match once(hub, command::Kind::Publish(publish), context).await? {
        server_message::Kind::Published(published) => Ok(answer(&published)),
        _ => Err(Problem::new(Code::Internal, "The reply is of another kind.")),
    }
}

/// `GET {path}/history?channel=…&from.epoch=…&from.offset=…&limit=…`: the answer is a HistoryPage.
pub(super) async fn history(
    hub: &Hub,
    request: &Request<Incoming>,
    context: &Context,
) -> Result<Response<Body>, Problem> {
    let query = wanted(request.uri().query())?;
    match once(hub, command::Kind::History(query), context).await? {
        server_message::Kind::History(page) => Ok(answer(&page)),
        _ => Err(Problem::new(Code::Internal, "The reply is of another kind.")),
    }
}

fn wanted(query: Option<&str>) -> Result<HistoryQuery, Problem> {
    let mut wanted = HistoryQuery::default();
    for (name, value) in pairs(query, &["channel", "from.epoch", "from.offset", "limit"])? {
        let from = || Position::default();
        match name.as_str() {
            "channel" => wanted.channel = value,
            "from.epoch" => wanted.from.get_or_insert_with(from).epoch = value,
            "from.offset" => wanted.from.get_or_insert_with(from).offset = number("from.offset", &value)?,
            _ => wanted.limit = number("limit", &value)?,
        }
    }
    match wanted.channel.is_empty() {
        true => Err(refuse("The query needs a channel: ?channel=….".into())),
        false => Ok(wanted),
    }
}

async fn once(hub: &Hub, command: command::Kind, context: &Context) -> Result<server_message::Kind, Problem> {
    let traceparent = context.traceparent.to_str().unwrap_or_default();
    match hub.once(identity::of(&context.caller), command, traceparent).await {
        server_message::Kind::Error(error) => Err(problems::of_error(&error)),
        reply => Ok(reply),
    }
}

/// The whole body, within the limit and the deadline.
async fn read(body: Lingering, limit: usize, context: &Context) -> Result<Bytes, Problem> {
    let read = Limited::new(body, limit).collect();
    match tokio::time::timeout(context.remaining(), read).await {
        Err(_) => Err(Problem::new(Code::RequestTimeout, "The request's body did not come in time.")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Problem::new(Code::BodyTooLarge, format!("The body is larger than {limit} bytes.")))
        }
        Ok(Err(_)) => Err(Problem::new(Code::Cancelled, "The request's body broke off.")),
    }
}

fn answer(reply: &impl Serialize) -> Response<Body> {
    let mut response = Response::new(Body::full(serde_json::to_vec(reply).unwrap_or_default()));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
