//! The gRPC client: a pool of HTTP/2 connections.
//! Nothing here knows contracts; whoever calls says which path and which bytes.

mod abandon;
mod connection;
mod pool;

pub use pool::{CallError, LeasedBody, Pool, Settings};
