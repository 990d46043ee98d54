//! The edge and the web plane against real upstreams, each fault with what its client sees.
#![allow(clippy::unwrap_used, missing_docs)] // Helpers of tests unwrap, too.

#[path = "../support/mod.rs"]
mod support;

mod browser;
mod codec;
mod faults;
mod lifecycle;
mod proxy;
mod streams;
mod tunnel;
mod tunnel_http2;
