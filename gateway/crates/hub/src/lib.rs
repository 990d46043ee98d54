//! Channels: subscriptions, history, fan-out, presence and sessions of clients, decided by an application over one stream.
//!
//! ```text
//! transport ──frames──► Client ──┐              ┌──► Outbox ──bytes ready for the socket──► transport
//!                                ├──► Hub ──────┤
//! application ──messages──► Link ┘              └──► asks, events ──► application
//! ```
//!
//! The hub knows no HTTP and no gRPC: decoded frames go in, bytes come out. It runs inside a tokio runtime, whose timers
//! flush batches and sweep what has ended. docs/decisions/0011-channels.md says why it is made so.
//!
//! # Layout
//!
//! - [`proto`]: the messages of `hybrid.channels.v1`, generated from the contract, and their JSON form
//! - [`Settings`]: every limit · [`Identity`], [`Authenticate`]: who connects · [`Closing`]: why a connection ends
//! - [`Hub`]: the whole · [`Client`]: a connection's reading half · [`Outbox`]: its writing half · [`Link`]: an application
//! - [`Stats`]: counters and gauges

mod bucket;
mod channel;
mod channels;
mod client;
mod clock;
mod closing;
mod codec;
mod commands;
mod connection;
mod desk;
mod hub;
mod identity;
mod ids;
mod keys;
mod link;
mod lock;
mod log;
mod namespace;
mod outbox;
mod positions;
mod presence;
pub mod proto;
mod reply;
mod revoked;
mod settings;
mod shared;
mod stats;
mod ticket;
mod timers;
mod wire;

pub use client::Client;
pub use closing::Closing;
pub use hub::Hub;
pub use identity::{Authenticate, Authenticated, Denied, Identity, Kind};
pub use link::{Link, LinkError};
pub use outbox::Outbox;
pub use settings::Settings;
pub use stats::{AskKind, AskOutcome, Stats};
pub use wire::Wire;
