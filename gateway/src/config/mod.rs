//! The gateway's configuration: one typed, documented tree, read from a TOML file and the environment.
//!
//! `schema` holds the types, `values` the leaf types with their ranges, `load` reads and overlays, `check` finds
//! what single values cannot show. Nothing else in the crate reads the environment.

mod channels;
mod check;
mod load;
mod schema;
mod values;

pub use channels::Channels;
pub use load::{ConfigError, Environment, load, parse};
pub use schema::*;
pub use values::{ByteSize, Count, List, Millis, Secret, Switch};
