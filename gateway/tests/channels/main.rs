//! Channels from outside: real sockets and event streams, and an application that is attached over the link.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)] // A panic is a test's failure.

mod app;
mod client;
mod hand;
#[path = "../support/mod.rs"]
mod support;

mod events;
mod faults;
mod frames;
mod idle;
mod lifecycle;
mod link;
mod plain;
mod resume;
mod websocket;
