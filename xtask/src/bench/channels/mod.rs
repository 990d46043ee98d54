//! The channels' benchmarks: many receivers of one process, beside Socket.IO, Pushpin and Centrifugo. The clients are
//! used by the black-box tests as well.
//!
//! # Layout
//! - [`wire`], [`socket`], [`session`]: the protocol's messages, a WebSocket, and a client in any contestant's protocol.
//! - [`link`]: an application on the gateway's link. [`user`]: a client that asks and waits for replies.
//! - [`deploy`]: people who write and read while the application is killed.
//! - [`marks`]: what messages hold, and how receivers count them.
//! - `field`, `backend`: the contestants and their applications; `load`: what the load's process does.
//! - [`churn`]: the same for clients that lose their connections.
//! - `fanout` (with latency), `idle`, `jitter`, `storm`, `deploys`: one module for a benchmark.

pub mod backend;
pub mod churn;
pub mod deploy;
mod deploys;
mod fanout;
pub(super) mod field;
mod idle;
mod jitter;
pub mod link;
pub(super) mod load;
pub mod marks;
pub mod session;
pub mod socket;
mod storm;
pub mod user;
pub mod wire;

pub(super) use deploys::run as deploys;
pub(super) use fanout::{latency, run as fanout};
pub(super) use field::node_peers;
pub(super) use idle::run as idle;
pub(super) use jitter::run as jitter;
pub(super) use storm::run as storm;
