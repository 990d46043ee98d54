//! The planes: each takes a request with its context to an upstream in its own way. They do not know each other.

pub mod channels;
pub mod contract;
pub mod web;
