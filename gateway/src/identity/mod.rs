//! Who calls, and how the services behind are told: verification of external and service tokens, and minting of
//! the short-lived identity that goes on to an upstream.

mod cache;
mod claims;
mod dev;
mod external;
mod jwks;
mod mint;
mod service;

pub use claims::{Caller, Kind};
pub use dev::DevIssuer;
pub use external::{AuthError, External};
pub use mint::Minter;
pub use service::Services;

/// Seconds since the Unix epoch.
pub(crate) fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
