//! What the black-box tests are made of: a stack of their own, clients for every public protocol, bounded
//! waits, and a runner that shows the services' last lines when a test fails.

pub mod collab;
pub mod contention;
pub mod grpc;
pub mod metrics;
pub mod random;
pub mod raw;
pub mod runner;
pub mod sse;
pub mod sut;
pub mod tokens;
pub mod wait;

pub use sut::Sut;
