//! Runs set-up steps: skips those whose stamp is current, shows one line of progress for all that run, and a
//! failed step's output.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::guard::Guard;
use super::process::signal_group;
use super::stamp::Stamp;
use crate::term;

/// A step whose placeholders are filled in.
pub(crate) struct Job {
    pub(crate) process: String,
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) run: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    /// `None`: runs every time.
    pub(crate) stamp: Option<(PathBuf, Vec<String>, Vec<String>)>,
}

/// Runs each process's steps in order, and those of different processes side by side.
pub(crate) struct Setup {
    guard: Guard,
    quiet: bool,
    cancelled: AtomicBool,
    running: Mutex<Vec<Running>>,
}

struct Running {
    label: String,
    started: Instant,
    last_line: String,
    group: u32,
}

/// How much of a failed step's output is shown: tools name the cause first or last, and help in between.
const SHOWN_FIRST: usize = 15;
const SHOWN_LAST: usize = 30;

impl Setup {
    /// `quiet`: no progress, for tests.
    pub(crate) fn new(guard: Guard, quiet: bool) -> Self {
        Self { guard, quiet, cancelled: AtomicBool::new(false), running: Mutex::default() }
    }

    /// Runs the jobs of every process; the first failure is returned after the others have stopped.
    pub(crate) fn run(&self, processes: Vec<Vec<Job>>) -> Result<()> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let ticker = scope.spawn(|| self.show_progress(&done));
            let threads: Vec<_> =
                processes.into_iter().map(|jobs| scope.spawn(move || self.run_in_order(jobs))).collect();
            let results: Vec<Result<()>> = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a set-up thread panicked"))))
                .collect();
            done.store(true, Ordering::Relaxed);
            ticker.thread().unpark();
            // What was broken off because another failed is not the news.
            let mut errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
            errors.sort_by_key(|error| error.is::<Interrupted>());
            errors.into_iter().next().map_or(Ok(()), Err)
        })
    }

    /// Stops what runs and lets nothing more begin.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        for running in self.running().iter() {
            signal_group(running.group, super::Signal::TERM);
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_in_order(&self, jobs: Vec<Job>) -> Result<()> {
        for job in jobs {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Interrupted.into());
            }
            if let Err(error) = self.run_one(&job) {
                let interrupted = self.cancelled.swap(true, Ordering::Relaxed);
                self.cancel();
                return if interrupted { Err(Interrupted.into()) } else { Err(error) };
            }
        }
        Ok(())
    }

    fn run_one(&self, job: &Job) -> Result<()> {
        let label = format!("{}: {}", job.process, job.name);
        let stamp = job
            .stamp
            .as_ref()
            .map(|(file, inputs, outputs)| Stamp::new(file.clone(), &job.run, &job.dir, inputs, outputs))
            .transpose()
            .with_context(|| format!("set-up of {label}"))?;
        if stamp.as_ref().is_some_and(Stamp::is_current) {
            return Ok(());
        }
        if let Some(stamp) = &stamp {
            stamp.remove();
        }
        let started = Instant::now();
        if !self.quiet && !term::is_terminal() && stamp.is_some() {
            term::say(format_args!("  {label} …"));
        }
        self.execute(job, &label)?;
        if let Some(stamp) = &stamp {
            let missing = stamp.missing_outputs();
            if !missing.is_empty() {
                bail!("set-up of {label} succeeded, but did not make {}", missing.join(", "));
            }
            stamp.write()?;
        }
        // A tool that found everything up to date is no news.
        if !self.quiet && (stamp.is_some() || started.elapsed() > Duration::from_secs(2)) {
            let time = term::paint(term::DIM, term::elapsed(started.elapsed()));
            term::say(format_args!("  {} {label}  {time}", term::paint(term::GREEN, "✓")));
        }
        Ok(())
    }

    fn execute(&self, job: &Job, label: &str) -> Result<()> {
        let (reader, writer) = std::io::pipe()?;
        let mut command = Command::new(&job.run[0]);
        forget_cargo(&mut command);
        command.args(&job.run[1..]).current_dir(&job.dir).envs(job.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
        let mut child = command.spawn().with_context(|| {
            format!("set-up of {label}: cannot run {} in {}", job.run[0], job.dir.display())
        })?;
        drop(command); // holds the pipe's writing end
        let group = child.id();
        let guarded = self.guard.watch(group);
        self.running().push(Running {
            label: label.to_owned(),
            started: Instant::now(),
            last_line: String::new(),
            group,
        });
        if self.cancelled.load(Ordering::Relaxed) {
            signal_group(group, super::Signal::TERM);
        }
        let output = self.collect(reader, group);
        let status = child.wait();
        self.running().retain(|running| running.group != group);
        drop(guarded);
        let status = status?;
        if status.success() {
            return Ok(());
        }
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        bail!("set-up of {label} failed ({status}): {}\n    {}", job.run.join(" "), output.join("\n    "));
    }

    /// Reads a step's output to its end; the last line shows in the progress.
    fn collect(&self, pipe: impl Read, group: u32) -> Vec<String> {
        let (mut first, mut last) = (Vec::new(), VecDeque::new());
        let mut reader = BufReader::new(pipe);
        let mut raw = Vec::new();
        let mut skipped = false;
        while matches!(reader.read_until(b'\n', &mut raw), Ok(1..)) {
            // Tools that redraw a line by carriage returns: what they drew last counts.
            let text = String::from_utf8_lossy(&raw);
            let line = text.trim_end().rsplit('\r').next().unwrap_or_default().to_owned();
            raw.clear();
            if let Some(running) = self.running().iter_mut().find(|r| r.group == group) {
                running.last_line.clone_from(&line);
            }
            if first.len() < SHOWN_FIRST {
                first.push(line);
                continue;
            }
            if last.len() == SHOWN_LAST {
                last.pop_front();
                skipped = true;
            }
            last.push_back(line);
        }
        if skipped {
            first.push("…".to_owned());
        }
        first.extend(last);
        first
    }

    fn show_progress(&self, done: &AtomicBool) {
        while !self.quiet && !done.load(Ordering::Relaxed) {
            let text = self.progress();
            term::status(text.as_deref());
            std::thread::park_timeout(Duration::from_millis(200));
        }
        if !self.quiet {
            term::status(None);
        }
    }

    /// All running steps on one line; with the last line of output where only one runs.
    fn progress(&self) -> Option<String> {
        let running = self.running();
        let parts: Vec<_> =
            running.iter().map(|r| format!("{} {}s", r.label, r.started.elapsed().as_secs())).collect();
        match (parts.as_slice(), running.first()) {
            ([], _) => None,
            ([one], Some(only)) => Some(format!("  … {one}   {}", only.last_line.trim())),
            (many, _) => Some(format!("  … {}", many.join("  ·  "))),
        }
    }
}

/// The set-up was broken off, by a signal or because another step failed.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Takes out what `cargo run` and `cargo test` tell a program of its own package. A build that inherits it takes it
/// for a change of its own environment: ring, and all that rests on it, would be compiled anew by each caller.
pub(crate) fn forget_cargo(command: &mut Command) {
    let own = [
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
        "CARGO_PRIMARY_",
        "CARGO_TARGET_TMPDIR",
    ];
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name == "OUT_DIR" || own.iter().any(|start| name.starts_with(start)))
        {
            command.env_remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn job(dir: &std::path::Path, script: &str) -> Job {
        Job {
            process: "p".into(),
            name: "s".into(),
            dir: dir.into(),
            run: vec!["sh".into(), "-c".into(), script.into()],
            env: vec![],
            stamp: Some((dir.join("stamps/s"), vec!["in".into()], vec!["out".into()])),
        }
    }

    fn fixture() -> (tempfile::TempDir, Setup) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("in"), "1").unwrap();
        (dir, Setup::new(Guard::start().unwrap(), true))
    }

    #[test]
    fn a_step_runs_once_until_its_input_changes() {
        let (dir, setup) = fixture();
        let runs = || std::fs::read_to_string(dir.path().join("out")).unwrap();
        for _ in 0..2 {
            setup.run(vec![vec![job(dir.path(), "printf x >> out")]]).unwrap();
        }
        assert_eq!(runs(), "x");
        std::fs::write(dir.path().join("in"), "2").unwrap();
        setup.run(vec![vec![job(dir.path(), "printf x >> out")]]).unwrap();
        assert_eq!(runs(), "xx");
    }

    #[test]
    fn a_failing_step_shows_its_output_and_leaves_no_stamp() {
        let (dir, setup) = fixture();
        let error =
            setup.run(vec![vec![job(dir.path(), "touch out; echo no space >&2; exit 3")]]).unwrap_err();
        assert!(error.to_string().contains("no space") && error.to_string().contains("3"), "{error}");
        assert!(!dir.path().join("stamps/s").exists());
    }

    #[test]
    fn a_step_that_does_not_make_its_output_is_an_error() {
        let (dir, setup) = fixture();
        let error = setup.run(vec![vec![job(dir.path(), "true")]]).unwrap_err();
        assert!(error.to_string().contains("did not make"), "{error}");
    }

    #[test]
    fn a_failure_stops_the_steps_of_other_processes() {
        let (dir, setup) = fixture();
        let started = Instant::now();
        let mut slow = job(dir.path(), "sleep 30");
        slow.stamp = None;
        let mut bad = job(dir.path(), "sleep 0.2; exit 1");
        bad.stamp = None;
        let error = setup.run(vec![vec![slow], vec![bad]]).unwrap_err();
        assert!(error.to_string().contains("exit 1"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn cancelling_ends_a_running_step() {
        let (dir, setup) = fixture();
        let setup = Arc::new(setup);
        let runner = Arc::clone(&setup);
        let mut slow = job(dir.path(), "sleep 30");
        slow.stamp = None;
        let thread = std::thread::spawn(move || runner.run(vec![vec![slow]]));
        while setup.running().is_empty() {
            std::thread::yield_now();
        }
        setup.cancel();
        assert!(thread.join().unwrap().unwrap_err().is::<Interrupted>());
    }
}
