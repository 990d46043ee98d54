//! The gRPC client: a pool of HTTP/2 connections, and a tower service over it for tonic's client.
//! Nothing here knows contracts; whoever calls says which path and which bytes.

mod codec;
mod connection;
mod pool;

pub use codec::RawCodec;
pub use pool::{CallError, Channel, LeasedBody, Pool, Settings};
