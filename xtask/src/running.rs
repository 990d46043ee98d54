//! How the other commands find the stack that `up` started: it notes its ports in `.state/running.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::stack::{Manifest, Stack};

/// A running stack's note.
#[derive(Debug, Serialize, Deserialize)]
pub struct Running {
    /// The process of `up`.
    pub pid: u32,
    /// Every port by name.
    pub ports: BTreeMap<String, u16>,
}

fn path(root: &Path) -> PathBuf {
    root.join(".state/running.json")
}

impl Running {
    /// The note of a stack that runs now, if there is one.
    pub fn find(root: &Path) -> Option<Self> {
        let running: Self = serde_json::from_str(&std::fs::read_to_string(path(root)).ok()?).ok()?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(running.pid).ok()?)?;
        rustix::process::test_kill_process(pid).is_ok().then_some(running)
    }

    /// `http://127.0.0.1:PORT` of a port: the running stack's, or else the manifest's default.
    pub fn url(root: &Path, port: &str) -> Result<String> {
        let number = match Self::find(root) {
            Some(running) => running.ports.get(port).copied(),
            None => Manifest::load(&root.join("stack.toml"))?.ports.get(port).copied(),
        };
        let number = number.with_context(|| format!("stack.toml has no port {port:?}"))?;
        Ok(format!("http://127.0.0.1:{number}"))
    }
}

/// Keeps the note while the stack runs; dropping it removes the note.
pub struct Note(PathBuf);

impl Note {
    /// Writes the note of this process's stack.
    pub fn write(stack: &Stack) -> Result<Self> {
        let ports = stack.manifest().ports.keys().map(|name| (name.clone(), stack.port(name))).collect();
        let running = Running { pid: std::process::id(), ports };
        let path = path(stack.root());
        let dir = path.parent().unwrap_or(stack.root());
        std::fs::create_dir_all(dir)?;
        std::fs::write(&path, serde_json::to_string_pretty(&running)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
