//! `--watch`: looks at the watched files twice a second; a changed process is set up again, which builds it, and
//! restarted. Looking is cheap (a few hundred files) and works the same on every system and file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;

use super::signals::Ended;
use crate::stack::Stack;
use crate::term::{self, DIM, GREEN, RED, paint};

const EVERY: Duration = Duration::from_millis(500);

/// Every watched file with its time and size.
type Snapshot = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

pub(super) fn run(stack: &Stack, ended: &Ended) -> Result<()> {
    let root = stack.root();
    let mut watched: Vec<_> = stack.manifest().process.iter().map(|p| (p, look(root, &p.watch))).collect();
    let files: usize = watched.iter().map(|(_, files)| files.len()).sum();
    term::say(paint(DIM, format_args!("watching {files} files")));
    while !ended.wait_for(EVERY) {
        for (process, before) in &mut watched {
            let mut now = look(root, &process.watch);
            if now == *before {
                continue;
            }
            let changed = changed(before, &now);
            // An editor or a checkout may still be writing.
            while !ended.wait_for(EVERY) {
                let next = look(root, &process.watch);
                if next == now {
                    break;
                }
                now = next;
            }
            if ended.is_set() {
                return Ok(());
            }
            let file = changed.strip_prefix(root).unwrap_or(&changed).display();
            term::say(paint(DIM, format_args!("{file} changed: {} restarts", process.name)));
            match restart(stack, &process.name) {
                Ok(()) => term::say(paint(GREEN, format_args!("{} is ready", process.name))),
                Err(_) if ended.is_set() => return Ok(()),
                // The next change is the next try; what still runs goes on.
                Err(error) => term::say(format_args!("{} {error:#}", paint(RED, "error:"))),
            }
            // What the build itself wrote must not count as the next change.
            *before = look(root, &process.watch);
        }
    }
    Ok(())
}

fn restart(stack: &Stack, name: &str) -> Result<()> {
    stack.prepare_only(&[name.to_owned()], false)?;
    stack.stop(name)?;
    stack.start(name)?;
    stack.wait_ready(name)
}

fn look(root: &Path, paths: &[String]) -> Snapshot {
    let mut files = Snapshot::new();
    for path in paths {
        add(&root.join(path), &mut files);
    }
    files
}

fn add(path: &Path, files: &mut Snapshot) {
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let Ok(meta) = std::fs::metadata(path) else { return };
    if !meta.is_dir() {
        files.insert(path.to_owned(), (meta.modified().ok(), meta.len()));
        return;
    }
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        // Editors' temporary files, caches.
        if !hidden(&entry.path()) && entry.file_name() != "__pycache__" && entry.file_name() != "node_modules"
        {
            add(&entry.path(), files);
        }
    }
}

/// One file that differs; there is at least one.
fn changed(before: &Snapshot, now: &Snapshot) -> PathBuf {
    let differs = |(path, _): &(&PathBuf, _)| before.get(*path) != now.get(*path);
    now.iter().chain(before).find(differs).map(|(path, _)| path.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_a_new_and_a_removed_file_are_seen_and_hidden_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        std::fs::write(file("a"), "1").unwrap();
        let look = || super::look(dir.path(), &[".".into()]);
        let first = look();
        std::fs::write(file(".a.swp"), "1").unwrap();
        assert_eq!(look(), first);
        std::fs::write(file("a"), "22").unwrap();
        let second = look();
        assert_eq!(changed(&first, &second).file_name(), file("a").file_name());
        std::fs::write(file("b"), "1").unwrap();
        assert_eq!(changed(&second, &look()).file_name(), file("b").file_name());
        let third = look();
        std::fs::remove_file(file("b")).unwrap();
        assert_eq!(changed(&third, &look()).file_name(), file("b").file_name());
    }
}
