//! The project's commands as a library.
//!
//! # Layout
//! - [`stack`]: the processes of `stack.toml`: set-up, start, readiness, restart, stop.
//! - [`up`], [`token`], [`demo`], [`test`], [`check`], [`bench`], [`clean`]: one module per command.
//! - [`running`]: how the other commands find a stack that `up` started.
//! - [`grpc`], [`term`]: a gRPC client without generated code; what is written on the terminal.

pub mod bench;
pub mod check;
pub mod clean;
pub mod demo;
pub mod grpc;
pub mod running;
pub mod stack;
mod tasks;
pub mod term;
pub mod test;
pub mod token;
pub mod up;

use std::path::{Path, PathBuf};

/// The repository: the nearest folder above the current one that has `stack.toml`, or else the one that this
/// program was built in.
pub fn root() -> PathBuf {
    let current = std::env::current_dir().unwrap_or_default();
    let found = current.ancestors().find(|dir| dir.join("stack.toml").is_file());
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default();
    found.map_or_else(built, Path::to_owned)
}
