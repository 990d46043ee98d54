//! The web plane: HTTP to HTTP upstreams, streamed in both directions, and WebSocket tunnels.

mod proxy;
mod routes;
mod tunnel;

pub use proxy::WebPlane;
pub use routes::{Route, Routes};
pub use tunnel::{Settings as TunnelSettings, Tunnels};
