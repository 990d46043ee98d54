//! Takes one request to an HTTP upstream and its response back. The hot path: nothing here is boxed, looked up by
//! name or formatted that need not be.

use super::{routes::Route, tunnel, tunnel::Tunnels};
use crate::{
    edge::{
        Body, Code, Context, Problem,
        headers::{self, Forwarded, Scan},
        websocket::{self, Handshake},
    },
    upstream::http1::{Answer, RequestBody, RequestHead, SendError, Wait},
};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, request::Parts,
};
use hyper::body::Incoming;
use std::{sync::Arc, time::Duration, time::Instant};

/// The web plane of one configuration.
pub struct WebPlane {
    /// Limits and times of tunnels.
    pub tunnel: tunnel::Settings,
    /// The open tunnels.
    pub tunnels: Arc<Tunnels>,
}

impl WebPlane {
    /// Serves a request whose access has been checked; `found` is the scan of its headers.
    pub async fn call(
        &self,
        context: &Context,
        route: &Route,
        forwarded: &Forwarded,
        found: Scan,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Problem> {
        let pool = route
            .upstream
            .http
            .as_ref()
            .ok_or_else(|| Problem::new(Code::Internal, "The route has no HTTP upstream."))?;
        let may_ask = route.websocket && (found.upgrade || request.version() == Version::HTTP_2);
        let handshake = (may_ask && websocket::is_asked(&request)).then(|| Handshake::take(&mut request));
        let upgrade = handshake.is_some();
        if upgrade {
            tunnel::check(&request)?;
            self.tunnels.admit(self.tunnel.limit)?;
        }
        let (mut parts, incoming) = request.into_parts();
        check_length(&parts.headers, route.body_bytes)?;
        let accept = handshake.as_ref().and_then(|handshake| handshake.rekey(&mut parts.headers));
        let mut head = write_head(parts, context, route, forwarded, found);
        if upgrade {
            websocket::upgrade(|name, value| head.header(&name, &value));
        }
        let body = RequestBody::new(incoming, route.body_bytes);
        let deadline = if upgrade { context.start + self.tunnel.handshake } else { context.deadline };
        let sent = Instant::now();
        let wait = Wait { start: context.start, deadline, absolute: context.client_deadline && !upgrade };
        let result = pool.send(head, body, wait).await;
        context.set_upstream_time(sent.elapsed());
        let answer = result.map_err(|error| refuse(&error, context, route))?;
        match (answer.status, handshake) {
            (StatusCode::SWITCHING_PROTOCOLS, Some(client)) => {
                self.switch(answer, client, accept.as_deref(), context, route)
            }
            (StatusCode::SWITCHING_PROTOCOLS, None) => {
                Err(Problem::new(Code::BadGateway, "The upstream changed the protocol unasked."))
            }
            // To a client of HTTP/2, any such status says that its WebSocket is open.
            (status, Some(_)) if status.is_success() && accept.is_some() => {
                Err(Problem::new(Code::BadGateway, "The upstream did not change to WebSocket."))
            }
            _ => Ok(answer.into_response()),
        }
    }

    /// `accept` is the answer that the gateway's own key asks for, where it sent one.
    fn switch(
        &self,
        mut answer: Answer,
        client: Handshake,
        accept: Option<&str>,
        context: &Context,
        route: &Route,
    ) -> Result<Response<Body>, Problem> {
        let answered = answer.headers.get(header::SEC_WEBSOCKET_ACCEPT);
        if !tunnel::granted(answer.upgrade.as_ref())
            || accept.is_some_and(|accept| answered.is_none_or(|answered| answered != accept))
        {
            return Err(Problem::new(
                Code::BadGateway,
                "The upstream's answer to the upgrade is not one to WebSocket.",
            ));
        }
        let out = client.grant(std::mem::take(&mut answer.headers));
        let (upstream, early) = answer.into_socket();
        self.tunnels.open(self.tunnel, client, upstream, early);
        tracing::debug!(route = route.metrics.name(), request_id = context.request_id_str(), "tunnel opened");
        Ok(out)
    }
}

fn check_length(headers: &HeaderMap, limit: u64) -> Result<(), Problem> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(()) };
    match length.to_str().ok().and_then(|text| text.parse::<u64>().ok()) {
        Some(length) if length <= limit => Ok(()),
        _ => Err(too_large()),
    }
}

fn too_large() -> Problem {
    Problem::new(Code::BodyTooLarge, "The body exceeds the limit.")
}

/// Upstreams get the path and query only, as origin servers want it.
fn origin_form(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |target| target.as_str())
}

/// Writes what passes of the client's head, and what the gateway says itself.
fn write_head(
    parts: Parts,
    context: &Context,
    route: &Route,
    forwarded: &Forwarded,
    found: Scan,
) -> RequestHead {
    let mut head = RequestHead::new(parts.method.clone(), origin_form(&parts.uri));
    let tied = if found.hop { headers::tied(&parts.headers) } else { Vec::new() };
    for (name, value) in &parts.headers {
        let passes = match name.as_str() {
            // Written anew, here and where the body is framed.
            "content-length" | "request-timeout" | "traceparent" | "x-request-id" => false,
            "authorization" => route.forward_authorization,
            name => headers::passes(name) && !Forwarded::replaces(name),
        };
        if passes && !tied.contains(name) {
            head.header(name, value);
        }
    }
    head.line("x-request-id: ", &context.request_id);
    head.line("traceparent: ", &context.traceparent);
    match context.client_deadline {
        true => head.line("request-timeout: ", &seconds(context.remaining())),
        false => head.line("request-timeout: ", &route.budget_header),
    }
    if let Some(minter) = &route.upstream.minter {
        head.line("x-hybrid-identity: ", &minter.identity(&context.caller, context.start));
    }
    head.lines(&forwarded.lines(parts.headers.get(header::HOST)));
    head
}

/// A duration as `request-timeout` says it.
pub(super) fn seconds(budget: Duration) -> HeaderValue {
    let text = format!("{}.{:03}", budget.as_secs(), budget.subsec_millis());
    let text = text.trim_end_matches('0').trim_end_matches('.');
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

fn refuse(error: &SendError, context: &Context, route: &Route) -> Problem {
    let upstream = &route.upstream.name;
    if !matches!(error, SendError::BodyTooLarge | SendError::BodyIncomplete) {
        tracing::warn!(upstream, %error, request_id = context.request_id_str(), "the upstream did not answer");
    }
    match error {
        SendError::Overloaded => Problem::new(Code::Overloaded, "Too many requests wait for this upstream."),
        SendError::Connect(_) => Problem::new(Code::UpstreamUnavailable, "The upstream cannot be reached."),
        SendError::Timeout => Problem::new(Code::GatewayTimeout, "The upstream did not answer in time."),
        SendError::Broken(_) => {
            Problem::new(Code::BadGateway, "The upstream broke the connection or did not speak HTTP.")
        }
        SendError::BodyTooLarge => too_large(),
        SendError::BodyIncomplete => {
            Problem::new(Code::RequestTimeout, "The request's body did not arrive in time.")
        }
    }
}

/// Whether a request has (or may have) content.
pub(super) fn has_content(method: &Method, headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    length || headers.contains_key(header::TRANSFER_ENCODING) || method == Method::CONNECT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_decimal_seconds() {
        for (millis, text) in [(30_000, "30"), (250, "0.25"), (1_500, "1.5"), (10, "0.01")] {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn upstreams_get_origin_form() {
        assert_eq!(origin_form(&Uri::from_static("http://a.example/x?y=1")), "/x?y=1");
        assert_eq!(origin_form(&Uri::from_static("/x?y=1")), "/x?y=1");
    }
}
