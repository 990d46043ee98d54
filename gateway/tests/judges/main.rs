//! What others wrote judges the gateway: the clients that people use, and suites for HTTP, WebSocket and OpenAPI. All of
//! it installs something or takes long, so it runs as suites of `stack.toml` alone.
#![allow(clippy::unwrap_used, missing_docs)] // A panic is a test's failure.

#[path = "../contract/lab/mod.rs"]
mod lab;
#[path = "../support/mod.rs"]
mod support;

mod clients;
mod expected;
mod frame;
mod http;
mod openapi;
mod tools;
mod websocket;
mod zoo;
