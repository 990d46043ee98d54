//! The contract plane against upstreams that are real and, where a test asks for it, wrong: every protocol, every fault.
#![allow(clippy::unwrap_used, missing_docs)] // A panic is a test's failure.

mod lab;
mod rpc;
#[path = "../support/mod.rs"]
mod support;

mod abandoned;
mod connect;
mod connect_stream;
mod docs;
mod grpc_web;
mod native;
mod ndjson;
mod reload;
mod slow;
mod stream;
mod timeout;
mod unary;
mod unknown_fields;
mod upload;
mod websocket;
mod websocket_http2;
