//! The project's commands as a library.
//!
//! # Layout
//! - [`bench`]: the gateway beside its peers.
//! - [`stack`]: the processes of `stack.toml`: set-up, start, readiness, restart, stop.
//! - [`grpc`]: a gRPC client without generated code.
//! - [`term`]: what is written on the terminal.

pub mod bench;
pub mod grpc;
pub mod stack;
pub mod term;

use std::path::{Path, PathBuf};

/// The repository: the folder above this crate, or the nearest one above the current folder that has `stack.toml`
/// (the program may run where it was not built).
pub fn root() -> PathBuf {
    let current = std::env::current_dir().unwrap_or_default();
    let found = current.ancestors().find(|dir| dir.join("stack.toml").is_file());
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default();
    found.map_or_else(built, Path::to_owned)
}
