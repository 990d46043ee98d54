//! `cargo xtask clean`: removes the stack's state, and with `--all` also all that set-up and builds made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::running::Running;
use crate::stack::{Manifest, Process, is_made_folder};
use crate::term;

/// What `cargo xtask clean` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also remove installed packages, generated code, model weights and builds
    #[arg(long)]
    all: bool,
}

/// Refuses while a stack runs.
pub fn run(args: &Args) -> Result<bool> {
    let root = crate::root();
    if let Some(running) = Running::find(&root) {
        bail!("the stack runs (process {}): stop it first", running.pid);
    }
    let mut paths = BTreeSet::from([root.join(".state")]);
    if args.all {
        paths.extend([root.join("target"), root.join("xtask/peers/go/gen")]);
        for process in &Manifest::load(&root.join("stack.toml"))?.process {
            paths.extend(made(&root, process));
        }
    } else {
        // The stamps say what is installed, and that stays.
        paths = entries(&root.join(".state")).filter(|path| !path.ends_with("stamps")).collect();
    }
    for path in paths.iter().filter(|path| path.exists()) {
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
        term::say(format_args!("removed {}", path.strip_prefix(&root).unwrap_or(path).display()));
    }
    Ok(true)
}

/// The outputs of a process's set-up; of an installed or generated folder, the folder as a whole.
fn made(root: &Path, process: &Process) -> Vec<PathBuf> {
    let outputs = process.steps(true).flat_map(|step| &step.outputs);
    outputs
        .map(|output| {
            let mut path = root.join(&process.dir);
            for part in Path::new(output).components() {
                path.push(part);
                if part.as_os_str().to_str().is_some_and(is_made_folder) {
                    break;
                }
            }
            path
        })
        .collect()
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}
