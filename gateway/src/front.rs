//! The service behind the public and the internal listener: takes a request through the edge's checks to the plane
//! that serves it, and finishes its response. Composes edge, identity and planes; they do not know each other.

use crate::{
    edge::{
        Body, Code, Context, Listener, Problem, Rule,
        access_log::{AccessLog, Line},
        browser,
        connection::{Connection, Finish},
        headers,
        headers::{ON_BEHALF_OF, SERVER_TIMING, Scan},
        linger::Lingering,
        problem::Style,
        trace::{self, REQUEST_ID},
        websocket,
    },
    identity::{AuthError, Caller},
    pages,
    planes::{
        channels,
        contract::{Lookup, Target},
        web::Route,
    },
    snapshot::Snapshot,
};
use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

const NOTHING: &str = "There is nothing at this path.";

/// What both listeners share.
pub(crate) struct Front {
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) log: Option<Arc<AccessLog>>,
    pub(crate) draining: AtomicBool,
}

/// Where a request goes.
enum Destination {
    Web(Arc<Route>),
    Contract(Target),
    Channels(channels::Target),
    Page(pages::Page),
    /// A question of what can be done at a path: these methods.
    Options(String),
}

/// What the checks leave to do.
enum Passage {
    Answer(Response<Body>),
    Web(Arc<Route>, Scan),
    Contract(Target),
    Channels(channels::Target),
}

impl Front {
    /// Serves one request.
    pub(crate) async fn serve(
        self: Arc<Self>,
        connection: Arc<Connection>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let start = Instant::now();
        let snapshot = self.snapshot.load_full();
        let mut finish = connection.begin();
        if request.version() == Version::HTTP_2 {
            name_host(&mut request);
            websocket::adopt(&mut request, &connection);
        }
        let ids = trace::ids(request.headers());
        let mut context =
            Context::new(connection.listener, connection.client, start, snapshot.external.anonymous(), ids);
        let line = self.log.as_ref().map(|log| log.line(request.method(), request.uri().path()));
        let mut style = Style::of(request.headers());
        let shared = snapshot.browser.shared_origin(request.headers());
        let passed = if headers::is_malformed(&request) {
            Err(Problem::new(Code::InvalidArgument, "A header's value begins or ends with a blank."))
        } else {
            self.pass(&snapshot, &connection, &mut context, &mut request, &mut finish, &mut style).await
        };
        let result = match passed {
            Ok(Passage::Answer(response)) => Ok(response),
            Ok(Passage::Web(route, found)) => {
                snapshot.web.call(&context, &route, &connection.forwarded, found, request).await
            }
            // Boxed, so that its state does not weigh on the hot path's future.
            Ok(Passage::Contract(target)) => {
                Box::pin(snapshot.contract.call(&context, target, request)).await
            }
            Ok(Passage::Channels(target)) => match &snapshot.channels {
                Some(plane) => Box::pin(plane.call(&context, target, request)).await,
                None => Err(Problem::new(Code::NotFound, NOTHING)),
            },
            Err(problem) => {
                // Many clients send head and body apart: refused by the head, they are to read why.
                let version = request.version();
                drop(Lingering::new(request.into_body(), version));
                Err(problem)
            }
        };
        let mut response = match result {
            Ok(response) => response,
            Err(problem) => {
                connection.metrics.problem(problem.code());
                problem.response(&context.request_id, style)
            }
        };
        if let Some(origin) = shared {
            browser::share(response.headers_mut(), &origin);
        }
        Ok(complete(response, &context, finish, line))
    }

    /// Takes a request through the checks.
    async fn pass(
        &self,
        snapshot: &Arc<Snapshot>,
        connection: &Connection,
        context: &mut Context,
        request: &mut Request<Incoming>,
        finish: &mut Finish,
        style: &mut Style,
    ) -> Result<Passage, Problem> {
        let found = headers::scan(request.headers());
        let destination = self.find(snapshot, connection.listener, request);
        finish.attribute(match &destination {
            Ok(Destination::Web(route)) => &route.metrics,
            Ok(Destination::Contract(target)) => {
                *style = target.style;
                &target.metrics
            }
            Ok(Destination::Channels(target)) => &target.metrics,
            _ => &snapshot.own,
        });
        if connection.over_limit(snapshot.config.limits.requests.0) {
            return Err(Problem::new(Code::Overloaded, "Too many requests are in flight."));
        }
        let head = found.size + request.uri().path().len() + request.uri().query().map_or(0, str::len);
        if head as u64 > snapshot.config.limits.header_bytes.0 {
            return Err(Problem::new(Code::HeadersTooLarge, "The request's head exceeds the limit."));
        }
        if connection.listener == Listener::Public {
            snapshot.browser.check(request.headers(), found)?;
            if let Some(answer) = snapshot.browser.preflight(request.method(), request.headers()) {
                return Ok(Passage::Answer(answer));
            }
        } else if found.origin {
            return Err(Problem::new(Code::OriginNotAllowed, "The internal listener is not for browsers."));
        }
        let destination = destination?;
        destination.refuse_connect(request)?;
        match destination {
            Destination::Options(allow) => Ok(Passage::Answer(options(&allow))),
            Destination::Page(page) => {
                if page == pages::Page::OpenApi {
                    Box::pin(pages::prepare_openapi(snapshot)).await;
                }
                pages::answer(page, request, snapshot, self.draining.load(Relaxed)).map(Passage::Answer)
            }
            Destination::Web(route) => {
                self.admit(snapshot, context, request, &route.rule, route.query_token).await?;
                context.limit(route.budget, request.headers(), found);
                Ok(Passage::Web(route, found))
            }
            Destination::Contract(target) => {
                self.admit(snapshot, context, request, &target.rule, target.query_token).await?;
                context.limit(target.budget, request.headers(), found);
                strip_ours(request, found);
                Ok(Passage::Contract(target))
            }
            Destination::Channels(target) => {
                self.admit(snapshot, context, request, &target.rule, target.query_token).await?;
                context.limit(target.budget, request.headers(), found);
                Ok(Passage::Channels(target))
            }
        }
    }

    fn find(
        &self,
        snapshot: &Snapshot,
        listener: Listener,
        request: &Request<Incoming>,
    ) -> Result<Destination, Problem> {
        let path = request.uri().path();
        if let Some(page) = pages::find(path, listener) {
            return Ok(Destination::Page(page));
        }
        if !is_plain(path) {
            return Err(Problem::new(Code::InvalidArgument, "The path has dot segments or backslashes."));
        }
        match snapshot.channels.as_ref().map(|plane| plane.find(request, listener)) {
            Some(channels::Lookup::Found(target)) => return Ok(Destination::Channels(target)),
            Some(channels::Lookup::MethodNotAllowed(allow)) => return wrong_method(request, allow),
            _ => {}
        }
        let route = snapshot.routes.find(path);
        if let Some(route) = route.filter(|route| !route.is_root()) {
            return Ok(Destination::Web(Arc::clone(route)));
        }
        match snapshot.contract.find(request, listener) {
            Lookup::Found(target) => return Ok(Destination::Contract(target)),
            Lookup::MethodNotAllowed(allow) if route.is_none() => return wrong_method(request, allow),
            _ => {}
        }
        if let Some(page) = pages::find_docs(path, listener, snapshot) {
            return Ok(Destination::Page(page));
        }
        match route {
            Some(route) => Ok(Destination::Web(Arc::clone(route))),
            None if path == "/" && listener == Listener::Public && snapshot.config.page.enabled.0 => {
                Ok(Destination::Page(pages::Page::Index))
            }
            None => Err(Problem::new(Code::NotFound, NOTHING)),
        }
    }

    /// Finds out who calls, and whether they may.
    async fn admit(
        &self,
        snapshot: &Snapshot,
        context: &mut Context,
        request: &mut Request<Incoming>,
        rule: &Rule,
        query_token: bool,
    ) -> Result<(), Problem> {
        if context.listener == Listener::Internal {
            context.caller = service(snapshot, request.headers(), context.start)?;
        } else {
            let from_query = if query_token { take_query_token(request) } else { None };
            let token = bearer(request.headers())?.or(from_query.as_deref());
            if let Some(token) = token {
                context.caller = match snapshot.external.cached(token, context.start) {
                    Some(caller) => caller,
                    None => Box::pin(snapshot.external.verify(token)).await.map_err(unauthenticated)?,
                };
            }
        }
        rule.check(context.listener, &context.caller)
    }
}

impl Destination {
    /// CONNECT opens nothing but WebSockets, and those only where there are some: 2xx would say that it did.
    fn refuse_connect(&self, request: &Request<Incoming>) -> Result<(), Problem> {
        if request.method() == Method::CONNECT {
            return Err(Problem::new(Code::Unimplemented, "CONNECT is for WebSockets over HTTP/2 alone."));
        }
        let opens = match self {
            Self::Web(route) => route.websocket,
            Self::Contract(target) => target.websocket,
            Self::Channels(target) => target.websocket,
            Self::Page(_) | Self::Options(_) => false,
        };
        match opens || !websocket::is_adopted(request) {
            true => Ok(()),
            false => Err(Problem::new(Code::Unimplemented, "There is no WebSocket at this path.")),
        }
    }
}

/// OPTIONS asks for the methods; another one is told them.
fn wrong_method(request: &Request<Incoming>, allow: String) -> Result<Destination, Problem> {
    match *request.method() {
        Method::OPTIONS => Ok(Destination::Options(allow)),
        _ => {
            Err(Problem::new(Code::MethodNotAllowed, "The path exists with other methods.").with_allow(allow))
        }
    }
}

/// The answer to OPTIONS that is no preflight.
fn options(allow: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().extend(HeaderValue::try_from(allow).map(|allow| (header::ALLOW, allow)));
    response
}

fn service(snapshot: &Snapshot, headers: &HeaderMap, now: Instant) -> Result<Arc<Caller>, Problem> {
    let token = bearer(headers)?
        .ok_or_else(|| Problem::new(Code::Unauthenticated, "The internal listener needs a service token."))?;
    let on_behalf_of = match headers.get(ON_BEHALF_OF) {
        Some(value) => Some(value.to_str().map_err(|_| unauthenticated(AuthError::Invalid))?),
        None => None,
    };
    snapshot.services.verify(token, on_behalf_of, now).map_err(unauthenticated)
}

fn unauthenticated(error: AuthError) -> Problem {
    match error {
        AuthError::Expired => Problem::new(Code::TokenExpired, "The token has expired."),
        AuthError::Invalid => Problem::new(Code::Unauthenticated, "The token is not valid."),
    }
}

/// The token of `authorization: Bearer`. Another scheme is no token of ours; a malformed one is refused.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().map_err(|_| unauthenticated(AuthError::Invalid))?;
    if values.next().is_some() {
        return Err(Problem::new(Code::Unauthenticated, "There is more than one authorization header."));
    }
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(Problem::new(Code::Unauthenticated, "Expected authorization: Bearer <token>.")),
    }
}

/// Takes `access_token` out of the query, so that it reaches neither an upstream nor a log.
fn take_query_token(request: &mut Request<Incoming>) -> Option<String> {
    let (token, rest) = split_query_token(request.uri().query()?)?;
    let path = request.uri().path();
    let target = if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(target.parse().ok()?);
    *request.uri_mut() = http::Uri::from_parts(parts).ok()?;
    Some(token)
}

fn split_query_token(query: &str) -> Option<(String, String)> {
    let is_token = |pair: &&str| pair.strip_prefix("access_token=").is_some();
    // A JWT has no character that a query must escape.
    let token = query.split('&').find(is_token)?.strip_prefix("access_token=")?.to_owned();
    let rest: Vec<_> = query.split('&').filter(|pair| !is_token(pair)).collect();
    Some((token, rest.join("&")))
}

/// An upstream may resolve dot segments and backslashes; the route was chosen without.
fn is_plain(path: &str) -> bool {
    let dots = |segment: &str| {
        let mut rest = segment;
        let mut count = 0;
        while let Some(next) =
            rest.strip_prefix('.').or_else(|| rest.strip_prefix("%2e")).or_else(|| rest.strip_prefix("%2E"))
        {
            (rest, count) = (next, count + 1);
        }
        rest.is_empty() && (1..=2).contains(&count)
    };
    let suspicious = path.bytes().any(|b| matches!(b, b'.' | b'%' | b'\\'));
    !suspicious
        || !path.contains('\\') && !path.to_ascii_lowercase().contains("%5c") && !path.split('/').any(dots)
}

/// HTTP/2 names the host in its pseudo-header.
fn name_host(request: &mut Request<Incoming>) {
    let authority = request.uri().authority().and_then(|a| HeaderValue::try_from(a.as_str()).ok());
    if let Some(authority) = authority {
        request.headers_mut().insert(header::HOST, authority);
    }
    // HTTP/2 may split cookies into several headers; HTTP/1 may not.
    if request.headers().get_all(header::COOKIE).iter().nth(1).is_some() {
        let joined = request
            .headers()
            .get_all(header::COOKIE)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect::<Vec<_>>()
            .join(&b"; "[..]);
        if let Ok(value) = HeaderValue::from_bytes(&joined) {
            request.headers_mut().insert(header::COOKIE, value);
        }
    }
}

fn strip_ours(request: &mut Request<Incoming>, found: Scan) {
    if found.ours {
        headers::strip_ours(request.headers_mut());
    }
}

/// Adds what every response carries, and what is counted when it ends.
fn complete(
    mut response: Response<Body>,
    context: &Context,
    mut finish: Finish,
    line: Option<Box<Line>>,
) -> Response<Body> {
    let micros = u32::try_from(context.start.elapsed().as_micros()).unwrap_or(u32::MAX);
    let status = response.status().as_u16();
    let headers = response.headers_mut();
    let theirs = headers.remove(SERVER_TIMING);
    headers.insert(SERVER_TIMING, headers::server_timing(micros, context.upstream_micros(), theirs.as_ref()));
    headers.insert(REQUEST_ID, context.request_id.clone());
    let line = line.map(|mut line| {
        line.head(context, finish.route(), status);
        line
    });
    finish.head(status, micros, line);
    response.map(|body| body.with_finish(finish))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_token_is_taken_out_whole() {
        let split = |q| split_query_token(q);
        assert_eq!(split("a=1&access_token=x.y.z&b=2"), Some(("x.y.z".into(), "a=1&b=2".into())));
        assert_eq!(split("access_token=x&access_token=y"), Some(("x".into(), String::new())));
        assert_eq!(split("a=1"), None);
    }

    #[test]
    fn paths_that_an_upstream_could_read_differently_are_refused() {
        for good in ["/", "/api/notes/a.b", "/v1/text:embed", "/api/.well-known", "/a/...", "/a%20b"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in
            ["/api/../admin", "/api/..", "/api/%2e%2e/x", "/api/.%2E/x", "/a/./b", "/a\\..\\b", "/a%5cb"]
        {
            assert!(!is_plain(bad), "{bad}");
        }
    }

    #[test]
    fn only_one_bearer_token_is_read() {
        let mut headers = HeaderMap::new();
        assert!(matches!(bearer(&headers), Ok(None)));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("bearer abc"));
        assert_eq!(bearer(&headers).unwrap(), Some("abc"));
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        assert!(bearer(&headers).is_err());
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic x"));
        assert_eq!(bearer(&headers).unwrap_err().code(), Code::Unauthenticated);
    }
}
