//! One command of a suite or a check: run in its folder, with its environment, timed.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::stack::{Stack, Task, forget_cargo};

/// What a task's run came to.
pub(crate) struct Outcome {
    pub(crate) ok: bool,
    pub(crate) time: Duration,
    /// Empty where the output went to the terminal.
    pub(crate) output: String,
}

/// The command of a task, with placeholders filled in.
pub(crate) fn command(stack: &Stack, task: &Task) -> Result<Command> {
    let run = task.run.iter().map(|part| stack.fill(part)).collect::<Result<Vec<_>>>()?;
    let mut command = Command::new(&run[0]);
    forget_cargo(&mut command);
    command.args(&run[1..]).current_dir(stack.root().join(&task.dir)).stdin(Stdio::null());
    for (name, value) in &task.env {
        command.env(name, stack.fill(value)?);
    }
    Ok(command)
}

/// Runs with the output on the terminal as it comes.
pub(crate) fn run_visible(mut command: Command) -> Result<Outcome> {
    let started = Instant::now();
    let status = command.status().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    Ok(Outcome { ok: status.success(), time: started.elapsed(), output: String::new() })
}

/// Runs with the output kept.
pub(crate) fn run_captured(mut command: Command) -> Result<Outcome> {
    let started = Instant::now();
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Outcome { ok: output.status.success(), time: started.elapsed(), output: text })
}

/// The processes whose set-up these tasks need, in the manifest's order.
pub(crate) fn needed<'a>(stack: &Stack, tasks: impl Iterator<Item = &'a Task> + Clone) -> Vec<String> {
    let wants = |name: &str| {
        tasks.clone().any(|task| task.needs.as_ref().is_none_or(|needs| needs.iter().any(|n| n == name)))
    };
    stack.names().filter(|name| wants(name)).map(str::to_owned).collect()
}
