//! The documentation page at `/docs`: plain HTML, CSS and JavaScript that need no network but the gateway. It renders
//! OpenAPI documents and sends requests; its parts are described at the head of each file.

use super::Document;
use std::sync::LazyLock;

/// Scripts and styles are files of their own, so that text of a contract can never run.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
    img-src 'self' data: blob:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

/// One file of the page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct File {
    path: &'static str,
    /// Its media type.
    pub(super) kind: &'static str,
    content: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($path:literal, $kind:expr, $file:literal;)*) => {
        [$(File { path: $path, kind: $kind, content: include_str!($file) },)*]
    };
}

static FILES: [File; 8] = files! {
    "/docs", HTML, "index.html";
    "/docs/style.css", CSS, "style.css";
    "/docs/app.js", SCRIPT, "app.js";
    "/docs/dom.js", SCRIPT, "dom.js";
    "/docs/document.js", SCRIPT, "document.js";
    "/docs/schema.js", SCRIPT, "schema.js";
    "/docs/operation.js", SCRIPT, "operation.js";
    "/docs/send.js", SCRIPT, "send.js";
};

/// The file at a path.
pub(super) fn find(path: &str) -> Option<&'static File> {
    let path = if path == "/docs/" { "/docs" } else { path };
    FILES.iter().find(|file| file.path == path)
}

/// A file as it is served.
pub(super) fn document(file: &'static File) -> &'static Document {
    static DOCUMENTS: LazyLock<Vec<Document>> =
        LazyLock::new(|| FILES.iter().map(|file| Document::new(file.content)).collect());
    let at = FILES.iter().position(|other| other == file).unwrap_or_default();
    &DOCUMENTS[at]
}
