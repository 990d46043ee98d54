//! What must hold for any bytes: one function for each fuzz target, named like it and its folder of `corpus`.
//!
//! ```sh
//! cargo install --locked cargo-fuzz
//! cd gateway/crates/transcode
//! RUSTC_BOOTSTRAP=1 cargo fuzz run from_json -- -max_total_time=180 -rss_limit_mb=1024 -malloc_limit_mb=64
//! RUSTC_BOOTSTRAP=1 cargo fuzz cmin from_json       # keeps of the corpus what reaches something of its own
//! ```
//!
//! The variable lets a stable compiler take the sanitizer's flags; a nightly one needs none. What a run finds is put
//! into the corpus with a name that says what it is. `tests/corpus.rs` of the crate feeds the corpus to the same
//! functions in every ordinary test run; it compiles all of this but the targets, which are one line each.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)] // Also a test's module; panics are findings.

mod connect;
mod framing;
mod messages;
mod query;
mod routes;
pub mod types;

pub use connect::{connect_get, trailers};
pub use framing::{envelope, grpc_web};
pub use messages::{from_json, to_json};
pub use query::query;
pub use routes::routes;

/// A target's name and function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 8] = [
    ("connect_get", connect_get),
    ("envelope", envelope),
    ("from_json", from_json),
    ("grpc_web", grpc_web),
    ("query", query),
    ("routes", routes),
    ("to_json", to_json),
    ("trailers", trailers),
];
