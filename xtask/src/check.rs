//! `cargo xtask check`: the checks of `stack.toml`, then those that need more than one command. All run, whatever
//! fails; each has a line with its time, and a failed one its output.

mod breaking;
mod conformance;
mod files;
mod imports;
mod layers;
mod opening;

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::stack::{Options, Ports, Profile, Stack};
use crate::tasks;
use crate::term::{self, BOLD, DIM, GREEN, RED, YELLOW, paint};

/// What `cargo xtask check` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only the checks whose names begin so; none: all
    names: Vec<String>,
    /// Where a check runs the gateway, one that was built for debugging
    #[arg(long)]
    debug: bool,
}

/// What a check came to.
enum Verdict {
    Passed,
    /// With the reason.
    Skipped(String),
    /// With what was found.
    Failed(String),
}

impl Verdict {
    /// Passed if nothing was found.
    fn of(findings: Vec<String>) -> Self {
        if findings.is_empty() { Self::Passed } else { Self::Failed(findings.join("\n")) }
    }
}

type Check = fn(&Stack) -> Result<Verdict>;

/// The checks that are no single command.
const OWN: [(&str, Check); 5] = [
    ("buf breaking", breaking::run),
    ("protobuf suite", conformance::run),
    ("layers", layers::run),
    ("opening comments", opening::run),
    ("files", files::run),
];

/// `false` when a check failed.
pub fn run(args: &Args) -> Result<bool> {
    let options =
        Options { profile: Profile::of(args.debug), ports: Ports::Free([].into()), ..Options::default() };
    let stack = Stack::load(&crate::root(), options)?;
    let wanted =
        |name: &str| args.names.is_empty() || args.names.iter().any(|n| name.starts_with(n.as_str()));
    let tasks: Vec<_> = stack.manifest().check.iter().filter(|task| wanted(&task.name)).collect();
    term::say(paint(BOLD, "set up"));
    stack.prepare_only(&tasks::needed(&stack, tasks.iter().copied()), true)?;
    term::say(paint(BOLD, "checks"));
    let mut counts = [0; 3];
    for task in tasks {
        let verdict = || {
            let outcome = tasks::run_captured(tasks::command(&stack, task)?)?;
            Ok(if outcome.ok { Verdict::Passed } else { Verdict::Failed(outcome.output) })
        };
        report(&task.name, verdict, &mut counts);
    }
    for (name, check) in OWN.into_iter().filter(|(name, _)| wanted(name)) {
        report(name, || check(&stack), &mut counts);
    }
    let [passed, skipped, failed] = counts;
    term::say(format_args!("checks: {passed} passed, {failed} failed, {skipped} skipped"));
    Ok(failed == 0)
}

fn report(name: &str, check: impl FnOnce() -> Result<Verdict>, counts: &mut [usize; 3]) {
    term::status(Some(&format!("  … {name}")));
    let started = Instant::now();
    let verdict = check().unwrap_or_else(|error| Verdict::Failed(format!("{error:#}")));
    let time = started.elapsed();
    term::status(None);
    let line = |mark: String, time: Duration, more: &str| {
        let time = paint(DIM, format_args!("{:>10}", term::elapsed(time)));
        term::say(format_args!("  {mark} {name:18} {time}  {more}"));
    };
    match verdict {
        Verdict::Passed => {
            counts[0] += 1;
            line(paint(GREEN, "✓"), time, "");
        }
        Verdict::Skipped(why) => {
            counts[1] += 1;
            line(paint(YELLOW, "–"), time, &format!("skipped: {why}"));
        }
        Verdict::Failed(output) => {
            counts[2] += 1;
            line(paint(RED, "✗"), time, "");
            for text in output.trim_end().lines() {
                term::say(format_args!("      {text}"));
            }
        }
    }
}
