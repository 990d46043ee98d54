//! `cargo xtask test`: every suite of `stack.toml`, in order, with the runners' own output and a summary.

use anyhow::{Result, bail};

use crate::stack::{Options, Ports, Profile, Stack, Task};
use crate::tasks;
use crate::term::{self, BOLD, DIM, GREEN, RED, paint};

/// What `cargo xtask test` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which suites to run, by their names in stack.toml; none: all but those that say `default = false`
    suites: Vec<String>,
    /// Test a gateway that was built for debugging: compiled together with the tests, once instead of twice
    #[arg(long)]
    debug: bool,
}

/// `false` when a suite failed; all run all the same.
pub fn run(args: &Args) -> Result<bool> {
    let options =
        Options { profile: Profile::of(args.debug), ports: Ports::Free([].into()), ..Options::default() };
    let stack = Stack::load(&crate::root(), options)?;
    let suites = choose(&stack.manifest().suite, &args.suites)?;
    term::say(paint(BOLD, "set up"));
    stack.prepare_only(&tasks::needed(&stack, suites.iter().copied()), true)?;
    let mut results = Vec::new();
    for suite in &suites {
        term::say(format_args!(
            "\n{} {}",
            paint(BOLD, &suite.name),
            paint(DIM, suite.run.join(" ").replace("{root}/", ""))
        ));
        results.push((&suite.name, tasks::run_visible(tasks::command(&stack, suite)?)?));
    }
    term::say(format_args!("\n{}", paint(BOLD, "suites")));
    for (name, outcome) in &results {
        let mark = if outcome.ok { paint(GREEN, "✓") } else { paint(RED, "✗") };
        term::say(format_args!("  {mark} {name:12} {:>12}", term::elapsed(outcome.time)));
    }
    let failed = results.iter().filter(|(_, outcome)| !outcome.ok).count();
    term::say(format_args!("suites: {} passed, {failed} failed", results.len() - failed));
    Ok(failed == 0)
}

fn choose<'a>(all: &'a [Task], names: &[String]) -> Result<Vec<&'a Task>> {
    for name in names {
        if !all.iter().any(|task| task.name == *name) {
            let known: Vec<_> = all.iter().map(|task| task.name.as_str()).collect();
            bail!("there is no suite {name:?}; known: {}", known.join(", "));
        }
    }
    let wanted = |task: &&Task| if names.is_empty() { task.default } else { names.contains(&task.name) };
    Ok(all.iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_default_runs_only_by_its_name() {
        let task = |name: &str, default| Task {
            name: name.into(),
            dir: ".".into(),
            run: vec![],
            env: [].into(),
            needs: None,
            default,
        };
        let all = [task("quick", true), task("slow", false)];
        let chosen = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            choose(&all, &names).map(|tasks| tasks.iter().map(|task| task.name.clone()).collect::<Vec<_>>())
        };
        assert_eq!(chosen(&[]).unwrap(), ["quick"]);
        assert_eq!(chosen(&["slow"]).unwrap(), ["slow"]);
        assert!(chosen(&["slwo"]).unwrap_err().to_string().contains("known: quick, slow"));
    }
}
