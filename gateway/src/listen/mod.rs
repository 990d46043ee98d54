//! Listeners: accepting connections, serving HTTP/1 and HTTP/2 on them, sweeping those that wait too long, and
//! draining all within a bound.

mod accept;
mod registry;
mod serve;

pub(crate) use accept::{Listening, bind};
pub(crate) use registry::Registry;
