//! The edge and the web plane against real upstreams, each fault with what its client sees.

#[path = "../support/mod.rs"]
mod support;

mod browser;
mod faults;
mod lifecycle;
mod proxy;
mod streams;
mod tunnel;
