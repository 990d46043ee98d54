//! The last line against orphans: a small shell process that knows the stack's process groups and stops them
//! when this process is gone without having done so (killed, aborted). It learns of the end by the end of its
//! standard input, so it needs no signal and works on every Unix.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

/// Reads `+ GROUP` and `- GROUP` until its input ends; then stops the groups that are left: TERM, 10 s, KILL.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
groups=
while read -r op id; do
  kept=
  for g in $groups; do [ "$g" = "$id" ] || kept="$kept $g"; done
  groups=$kept
  [ "$op" = - ] || groups="$groups $id"
done
for g in $groups; do kill -s TERM -- "-$g" 2>/dev/null; done
for _ in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do
  alive=
  for g in $groups; do kill -s 0 -- "-$g" 2>/dev/null && alive=1; done
  [ "$alive" ] || exit 0
  sleep 0.5
done
for g in $groups; do kill -s KILL -- "-$g" 2>/dev/null; done
"#;

/// The guarding process; it ends with its last clone.
#[derive(Clone)]
pub(crate) struct Guard(Arc<Mutex<Inner>>);

struct Inner {
    child: Child,
    input: Option<ChildStdin>,
}

/// A guarded process group; dropping it says that the group is gone.
pub(crate) struct Guarded {
    guard: Guard,
    group: u32,
}

impl Guard {
    /// Starts the guard, in a process group of its own so that Ctrl-C does not reach it.
    pub(crate) fn start() -> Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start /bin/sh, which guards the processes")?;
        let input = child.stdin.take();
        Ok(Self(Arc::new(Mutex::new(Inner { child, input }))))
    }

    /// Has the group stopped should this process die.
    pub(crate) fn watch(&self, group: u32) -> Guarded {
        self.tell('+', group);
        Guarded { guard: self.clone(), group }
    }

    fn tell(&self, op: char, group: u32) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(input) = &mut inner.input {
            let _ = writeln!(input, "{op} {group}");
        }
    }
}

#[cfg(test)]
impl Guard {
    /// Ends the guard's input, as this process's death would.
    pub(crate) fn end_input(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).input.take());
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.guard.tell('-', self.group);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
