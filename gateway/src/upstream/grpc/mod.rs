//! The gRPC client: a pool of HTTP/2 connections.
//! Nothing here knows contracts; whoever calls says which path and which bytes.

mod connection;
mod download;
mod keepalive;
mod pool;
mod upload;

pub use download::LeasedBody;
pub use pool::{CallError, Pool, Settings};
