//! What every request meets first, whatever plane serves it: its context, the checks on browsers and access, error
//! documents, headers, metrics and the access log. The planes use these types; nothing here knows a plane.

pub mod access;
pub mod access_log;
pub mod body;
pub mod browser;
pub mod connection;
pub mod context;
pub mod headers;
pub mod linger;
pub mod metrics;
pub mod problem;
pub mod trace;
pub mod websocket;

pub use access::{Level, Rule};
pub use body::{Body, BodyError, Link};
pub use connection::Connection;
pub use context::{Context, Listener};
pub use problem::{Code, FieldError, Problem};
