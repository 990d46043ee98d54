//! What the gateway answers itself: health, readiness, the page at `/`, and the API's documentation.

mod docs;
mod index;
mod openapi;
mod samples;

use crate::{
    edge::{Body, Code, Listener, Problem},
    snapshot::Snapshot,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use std::{
    hash::{DefaultHasher, Hasher},
    sync::Arc,
};

/// A page of the gateway's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// The process lives.
    Live,
    /// It takes requests.
    Ready,
    /// What runs, and what to try.
    Index,
    /// The OpenAPI document.
    OpenApi,
    /// A file of the documentation page.
    Docs(&'static docs::File),
}

/// Content that stays the same until a reload, and what names this state of it.
#[derive(Debug)]
pub(crate) struct Document {
    content: bytes::Bytes,
    tag: HeaderValue,
}

impl Document {
    fn new(content: impl Into<bytes::Bytes>) -> Self {
        let content = content.into();
        let mut hasher = DefaultHasher::new();
        hasher.write(&content);
        let tag = HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish()));
        Self { content, tag: tag.unwrap_or_else(|_| HeaderValue::from_static("\"\"")) }
    }

    /// The content, or that the client has it already.
    fn respond(&self, headers: &HeaderMap, kind: &'static str) -> Response<Body> {
        let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let tag = self.tag.to_str().unwrap_or_default();
        let is_known = known
            .flat_map(|list| list.split(','))
            .any(|one| matches!(one.trim(), "*") || one.trim().trim_start_matches("W/") == tag);
        let mut response =
            Response::new(if is_known { Body::empty() } else { Body::full(self.content.clone()) });
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        // Kept, but asked for again: a reload may have changed it.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::ETAG, self.tag.clone());
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

/// The page at `path`, if it is one that routes cannot take.
pub(crate) fn find(path: &str, listener: Listener) -> Option<Page> {
    match path {
        "/healthz" => Some(Page::Live),
        "/readyz" if listener == Listener::Public => Some(Page::Ready),
        _ => None,
    }
}

/// The documentation at `path`; routes of their own and contracts come before it.
pub(crate) fn find_docs(path: &str, listener: Listener, snapshot: &Snapshot) -> Option<Page> {
    if listener != Listener::Public || !snapshot.config.page.has_docs() {
        return None;
    }
    if path == openapi::PATH { Some(Page::OpenApi) } else { docs::find(path).map(Page::Docs) }
}

/// The samples' part of the page at `/`. Reads files: for when a configuration is loaded.
pub(crate) fn samples(folder: Option<&std::path::Path>) -> String {
    index::examples(folder)
}

/// The OpenAPI document of a configuration.
pub(crate) fn openapi(snapshot: &Snapshot, internal: bool) -> serde_json::Value {
    openapi::document(snapshot, internal)
}

/// Makes the document if it was not yet. Off the runtime's threads: of large contracts this takes a while.
pub(crate) async fn prepare_openapi(snapshot: &Arc<Snapshot>) {
    if snapshot.openapi.get().is_none() {
        let snapshot = Arc::clone(snapshot);
        let made = tokio::task::spawn_blocking(move || {
            snapshot.openapi.get_or_init(|| openapi::render(&snapshot));
        });
        if let Err(error) = made.await {
            tracing::error!(%error, "the OpenAPI document cannot be made");
        }
    }
}

/// Answers a page.
pub(crate) fn answer<B>(
    page: Page,
    request: &Request<B>,
    snapshot: &Snapshot,
    draining: bool,
) -> Result<Response<Body>, Problem> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(Problem::new(Code::MethodNotAllowed, "This page can only be read.")
            .with_allow("GET, HEAD".into()));
    }
    Ok(match page {
        Page::Live => text("ok".to_owned(), "text/plain; charset=utf-8"),
        Page::Ready if draining => return Err(Problem::new(Code::Draining, "The gateway is stopping.")),
        Page::Ready => text("ok".to_owned(), "text/plain; charset=utf-8"),
        Page::Index => {
            const POLICY: &str =
                "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
            let mut response = text(index::render(snapshot), "text/html; charset=utf-8");
            protect(&mut response, POLICY);
            response
        }
        Page::OpenApi => {
            let document = snapshot.openapi.get_or_init(|| openapi::render(snapshot));
            document.respond(request.headers(), "application/json")
        }
        Page::Docs(file) => {
            let mut response = docs::document(file).respond(request.headers(), file.kind);
            protect(&mut response, docs::POLICY);
            response
        }
    })
}

/// What shows the state of this moment.
fn text(content: String, kind: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::full(content));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn protect(response: &mut Response<Body>, policy: &'static str) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
