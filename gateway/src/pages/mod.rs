//! What the gateway answers itself: health, readiness, and the page at `/`.

mod index;
mod samples;

use crate::{
    edge::{Body, Code, Listener, Problem},
    snapshot::Snapshot,
};
use http::{HeaderValue, Method, Response, header};

/// A page of the gateway's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// The process lives.
    Live,
    /// It takes requests.
    Ready,
    /// What runs, and what to try.
    Index,
}

/// The page at `path`, if it is one that routes cannot take.
pub(crate) fn find(path: &str, listener: Listener) -> Option<Page> {
    match path {
        "/healthz" => Some(Page::Live),
        "/readyz" if listener == Listener::Public => Some(Page::Ready),
        _ => None,
    }
}

/// The samples' part of the page at `/`. Reads files: for when a configuration is loaded.
pub(crate) fn samples(folder: Option<&std::path::Path>) -> String {
    index::examples(folder)
}

/// Answers a page.
pub(crate) fn answer(
    page: Page,
    method: &Method,
    snapshot: &Snapshot,
    draining: bool,
) -> Result<Response<Body>, Problem> {
    if method != Method::GET && method != Method::HEAD {
        return Err(Problem::new(Code::MethodNotAllowed, "This page can only be read.")
            .with_allow("GET, HEAD".into()));
    }
    let (content, kind) = match page {
        Page::Live => ("ok".to_owned(), "text/plain; charset=utf-8"),
        Page::Ready if draining => return Err(Problem::new(Code::Draining, "The gateway is stopping.")),
        Page::Ready => ("ok".to_owned(), "text/plain; charset=utf-8"),
        Page::Index => (index::render(snapshot), "text/html; charset=utf-8"),
    };
    let mut response = Response::new(Body::full(content));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if page == Page::Index {
        const POLICY: &str =
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    Ok(response)
}
