//! The stack as a library: what `cargo xtask up`, the black-box tests and the benchmarks start, wait for, kill
//! and stop.
//!
//! ```no_run
//! use xtask::stack::{Options, Signal, Stack};
//! # fn main() -> anyhow::Result<()> {
//! let state = std::env::temp_dir().join("my-test");
//! let stack = Stack::load(&xtask::root(), Options::isolated(state))?; // free ports, logs in files, no restarts
//! stack.prepare()?;                                                   // tools, set-up, secrets
//! stack.start_all()?;                                                 // and wait until all are ready
//! stack.kill("ai", Signal::KILL)?;
//! stack.start("ai")?;
//! stack.wait_ready("ai")?;
//! # Ok(())
//! # }                                                                 // dropping it stops everything
//! ```
//!
//! Every call blocks; async callers on a single-threaded runtime put them into `spawn_blocking`. Dropping a
//! [`Stack`] stops all that it started, and should this process die without that, a guard does (see `guard.rs`).

mod guard;
mod logs;
mod manifest;
mod ports;
mod process;
mod ready;
mod secrets;
mod setup;
mod stamp;
mod tools;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub use self::logs::Logs;
pub use self::manifest::{Manifest, Process, Ready, Secrets, Step, Task};
pub use self::ports::{Ports, free_port};
pub use self::process::Phase;
pub use self::setup::Interrupted;
pub(crate) use self::setup::forget_cargo;
pub use self::stamp::is_made_folder;
pub use rustix::process::Signal;

use self::guard::Guard;
use self::process::{Spec, Supervised};
use self::setup::{Job, Setup};
use crate::term;

/// How the stack's Rust programs are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Optimised: `target/release`.
    #[default]
    Release,
    /// Fast to build: `target/debug`.
    Debug,
}

impl Profile {
    /// By the flag `--debug` of a command.
    pub fn of(debug: bool) -> Self {
        if debug { Self::Debug } else { Self::Release }
    }
}

/// What differs between a developer's stack, a test's and a benchmark's.
#[derive(Debug, Clone)]
pub struct Options {
    /// How Rust programs are built.
    pub profile: Profile,
    /// Secrets, data and logs. Relative to the repository.
    pub state: PathBuf,
    /// Where the ports come from.
    pub ports: Ports,
    /// Where the output goes.
    pub logs: Logs,
    /// Whether a process that crashes after it was ready is started again.
    pub restart: bool,
    /// Additional environment, by process; wins over the manifest's.
    pub env: BTreeMap<String, BTreeMap<String, String>>,
    /// How long a process has to end after SIGTERM before it is killed.
    pub stop_within: Duration,
}

impl Default for Options {
    /// A developer's stack: the manifest's ports, `.state`, output on the terminal, restarts.
    fn default() -> Self {
        Self {
            profile: Profile::Release,
            state: ".state".into(),
            ports: Ports::Manifest(BTreeMap::new()),
            logs: Logs::Console,
            restart: true,
            env: BTreeMap::new(),
            // Services give themselves 10 s.
            stop_within: Duration::from_secs(12),
        }
    }
}

impl Options {
    /// A test's stack: free ports, a state folder of its own, output in files, no restarts.
    pub fn isolated(state: impl Into<PathBuf>) -> Self {
        Self {
            state: state.into(),
            ports: Ports::Free(BTreeMap::new()),
            logs: Logs::Files,
            restart: false,
            ..Self::default()
        }
    }

    /// Sets one environment variable of one process.
    pub fn env(mut self, process: &str, name: &str, value: impl Into<String>) -> Self {
        self.env.entry(process.to_owned()).or_default().insert(name.to_owned(), value.into());
        self
    }
}

/// The processes of `stack.toml`, ready to be prepared, started and stopped. Dropping it stops them.
pub struct Stack {
    manifest: Manifest,
    fill: Fill,
    processes: Vec<Arc<Supervised>>,
    setup: Setup,
    options: Options,
}

impl Stack {
    /// Reads `stack.toml` in `root` and settles ports and paths; starts nothing.
    pub fn load(root: &Path, options: Options) -> Result<Self> {
        let manifest = Manifest::load(&root.join("stack.toml"))?;
        Self::new(root, manifest, options)
    }

    /// The same from a manifest that is in memory.
    pub fn new(root: &Path, manifest: Manifest, options: Options) -> Result<Self> {
        for name in options.env.keys() {
            manifest.process(name)?;
        }
        let fill = Fill {
            root: root.to_owned(),
            state: root.join(&options.state),
            profile: options.profile,
            ports: ports::resolve(&manifest, &options.ports)?,
        };
        let guard = Guard::start()?;
        let columns = manifest.process.iter().map(|p| p.name.len()).max().unwrap_or(0);
        let mut processes = Vec::new();
        for (index, process) in manifest.process.iter().enumerate() {
            let style = term::PROCESS_COLOURS[index % term::PROCESS_COLOURS.len()];
            let log = logs::Log::open(options.logs, &fill.state.join("logs"), &process.name, style, columns)?;
            let spec = fill.spec(process, options.env.get(&process.name))?;
            processes.push(Supervised::new(spec, log, guard.clone(), options.restart));
        }
        let setup = Setup::new(guard, options.logs == Logs::Files);
        Ok(Self { manifest, fill, processes, setup, options })
    }

    /// What `stack.toml` says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The state folder.
    pub fn state(&self) -> &Path {
        &self.fill.state
    }

    /// The repository.
    pub fn root(&self) -> &Path {
        &self.fill.root
    }

    /// The number of a port of the manifest; panics when there is none of this name.
    pub fn port(&self, name: &str) -> u16 {
        match self.fill.ports.get(name) {
            Some(port) => *port,
            None => panic!("stack.toml has no port {name:?}"),
        }
    }

    /// `http://127.0.0.1:PORT` of a port of the manifest.
    pub fn url(&self, port: &str) -> String {
        format!("http://127.0.0.1:{}", self.port(port))
    }

    /// The contents of a secret; it exists after [`Stack::prepare`].
    pub fn secret(&self, name: &str) -> Result<String> {
        let path = self.fill.secrets().join(name);
        let secret =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(secret.trim().to_owned())
    }

    /// A manifest's text with its placeholders filled in.
    pub fn fill(&self, text: &str) -> Result<String> {
        self.fill.text(text)
    }

    /// Checks the tools, does the set-up that is due, and makes the secrets.
    pub fn prepare(&self) -> Result<()> {
        let all: Vec<_> = self.names().map(str::to_owned).collect();
        self.prepare_only(&all, false)
    }

    /// [`Stack::prepare`] for some of the processes; with `dev`, also what their tests and checks need.
    pub fn prepare_only(&self, names: &[String], dev: bool) -> Result<()> {
        tools::check(&self.manifest, names.iter().map(String::as_str))?;
        secrets::create(&self.fill.secrets(), &self.manifest.secrets.names)?;
        std::fs::create_dir_all(&self.fill.state)?;
        let jobs =
            names.iter().map(|name| self.jobs(self.manifest.process(name)?, dev)).collect::<Result<_>>()?;
        // Two commands at once must not install into the same folders.
        let _lock = self.lock_setup()?;
        self.setup.run(jobs)
    }

    fn lock_setup(&self) -> Result<std::fs::File> {
        let dir = self.fill.stamps();
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let lock = std::fs::File::create(dir.join("lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(lock)
    }

    fn jobs(&self, process: &Process, dev: bool) -> Result<Vec<Job>> {
        let job = |step: &Step| {
            let slug: String = step.name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
            let stamp = self.fill.stamps().join(format!("{}.{slug}", process.name));
            Ok(Job {
                process: process.name.clone(),
                name: step.name.clone(),
                dir: self.fill.root.join(&process.dir),
                run: step.run.iter().map(|part| self.fill.text(part)).collect::<Result<_>>()?,
                env: self.fill.pairs(&step.env)?,
                stamp: (!step.always).then(|| (stamp, step.inputs.clone(), step.outputs.clone())),
            })
        };
        process.steps(dev).map(job).collect()
    }

    /// Fails if one of the ports is taken, with what to do.
    pub fn check_ports(&self) -> Result<()> {
        self.manifest.process.iter().try_for_each(|process| ports::check(process, &self.fill.ports))
    }

    /// Checks the ports, starts every process and waits until all are ready.
    pub fn start_all(&self) -> Result<()> {
        self.check_ports()?;
        self.processes.iter().try_for_each(|process| process.start())?;
        self.names().try_for_each(|name| self.wait_ready(name))
    }

    /// Starts one process; does not wait for it.
    pub fn start(&self, name: &str) -> Result<()> {
        self.find(name)?.start()
    }

    /// Waits until a started process is ready; its limit is the manifest's. An error shows its last lines.
    pub fn wait_ready(&self, name: &str) -> Result<()> {
        let process = self.find(name)?;
        process.wait_ready(process.spec.ready_within)
    }

    /// Signals one process (not its group), for example with [`Signal::KILL`] to let it crash.
    pub fn kill(&self, name: &str, signal: Signal) -> Result<()> {
        self.find(name)?.kill(signal)
    }

    /// Waits until a process has ended; an error when it has not within the time.
    pub fn wait_exit(&self, name: &str, within: Duration) -> Result<()> {
        ensure!(self.find(name)?.wait_exit(within), "{name} still runs after {}", term::elapsed(within));
        Ok(())
    }

    /// Stops one process and all that it started: SIGTERM, then SIGKILL. It is not started again.
    pub fn stop(&self, name: &str) -> Result<()> {
        let process = self.find(name)?;
        process.begin_stop();
        process.finish_stop(Instant::now() + self.options.stop_within);
        Ok(())
    }

    /// Stops every process, all at once.
    pub fn stop_all(&self) {
        self.processes.iter().for_each(|process| process.begin_stop());
        let until = Instant::now() + self.options.stop_within;
        self.processes.iter().for_each(|process| process.finish_stop(until));
    }

    /// Breaks off a running [`Stack::prepare`], which then fails with [`Interrupted`], and stops every process;
    /// callable from another thread.
    pub fn interrupt(&self) {
        self.setup.cancel();
        self.processes.iter().for_each(|process| process.begin_stop());
    }

    /// Where a process is in its life.
    pub fn phase(&self, name: &str) -> Result<Phase> {
        Ok(self.find(name)?.phase())
    }

    /// The process id, while it runs.
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.find(name).ok()?.pid()
    }

    /// The file with a process's output ([`Logs::Files`] only).
    pub fn log_path(&self, name: &str) -> Option<PathBuf> {
        self.find(name).ok()?.log.path().map(Path::to_owned)
    }

    /// The processes' names, in the manifest's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.processes.iter().map(|process| process.spec.name.as_str())
    }

    fn find(&self, name: &str) -> Result<&Arc<Supervised>> {
        self.manifest.process(name)?;
        self.processes
            .iter()
            .find(|process| process.spec.name == name)
            .context("the process is not supervised")
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.stop_all();
    }
}

/// What placeholders stand for.
struct Fill {
    root: PathBuf,
    state: PathBuf,
    profile: Profile,
    ports: BTreeMap<String, u16>,
}

impl Fill {
    fn secrets(&self) -> PathBuf {
        self.state.join("secrets")
    }

    /// Stamps belong to the checkout, whose folders the set-up fills, not to a stack's state.
    fn stamps(&self) -> PathBuf {
        self.root.join(".state/stamps")
    }

    fn spec(&self, process: &Process, extra: Option<&BTreeMap<String, String>>) -> Result<Spec> {
        let mut env = self.pairs(&process.env)?;
        env.extend(extra.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        Ok(Spec {
            name: process.name.clone(),
            dir: self.root.join(&process.dir),
            command: process.command.iter().map(|part| self.text(part)).collect::<Result<_>>()?,
            env,
            probe: ready::Probe::new(&process.ready, |text| self.text(text))?,
            ready_within: Duration::from_secs(process.ready.timeout_seconds),
        })
    }

    fn pairs(&self, env: &BTreeMap<String, String>) -> Result<Vec<(String, String)>> {
        env.iter().map(|(name, value)| Ok((name.clone(), self.text(value)?))).collect()
    }

    fn text(&self, text: &str) -> Result<String> {
        // Only what asks for Python needs to find one.
        let python = if text.contains("{python}") {
            tools::python().map_err(anyhow::Error::msg)?
        } else {
            String::new()
        };
        manifest::interpolate(text, |key| match key.split_once('.') {
            Some(("port", name)) => self.ports.get(name).map(u16::to_string),
            Some(("secret", name)) => Some(self.secrets().join(name).display().to_string()),
            Some(_) => None,
            None => match key {
                "root" => Some(self.root.display().to_string()),
                "state" => Some(self.state.display().to_string()),
                "bin" => Some(self.bin().display().to_string()),
                "profile" => Some(if self.profile == Profile::Release { "release" } else { "dev" }.into()),
                "python" => Some(python.clone()),
                _ => None,
            },
        })
    }

    fn bin(&self) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let profile = if self.profile == Profile::Release { "release" } else { "debug" };
        self.root.join(target).join(profile)
    }
}

#[cfg(test)]
mod tests;
