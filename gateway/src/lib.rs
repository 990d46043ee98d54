//! The edge: one front door for Node.js and Python services.
//!
//! ```text
//! main ─► lib (composes) ─► front ─► planes ─► upstream
//!                             └────────┴─────────┴──► edge, identity ─► config
//! ```
//!
//! # Layout
//!
//! - [`config`]: the TOML file with the environment laid over it, typed and checked
//! - [`identity`]: who calls (tokens from outside, services), and the identity that upstreams get
//! - [`edge`]: context, checks, errors, headers, metrics and logs that all planes share
//! - [`planes`]: `web` (HTTP proxy, WebSocket tunnels), `contract` (protobuf contracts as routes) and `channels` (the hub's
//!   sockets, event streams and link)
//! - [`upstream`]: connections, and states by health checks
//! - `front`: a request's way through all of that · `snapshot`: what is built from one configuration
//! - `listen`: connections · `pages`: the gateway's own answers · `admin`: metrics, states, reload
//!
//! Siblings never import each other; only this file, `front` and `snapshot` compose.

pub mod config;
pub mod edge;
pub mod identity;
pub mod planes;
pub mod upstream;

mod admin;
mod background;
mod front;
mod listen;
mod pages;
mod reload;
mod run;
mod snapshot;
mod watch;

pub use run::{Addresses, Gateway, Options};
