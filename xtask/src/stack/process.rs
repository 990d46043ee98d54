//! One process under supervision: started in a process group of its own, watched until it ends, probed until it
//! is ready, started again when it crashed, and stopped with everything that it started.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use super::Signal;
use super::guard::{Guard, Guarded};
use super::logs::Log;
use super::ready::Probe;
use crate::term;

/// What is started, with placeholders filled in.
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) probe: Probe,
    pub(crate) ready_within: Duration,
}

/// Where a process is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Never started, or stopped on request.
    Stopped,
    /// It runs and is not ready yet.
    Starting,
    /// It runs and was ready once.
    Ready,
    /// It ended by itself or was killed; says how.
    Exited(String),
}

pub(crate) struct Supervised {
    pub(crate) spec: Spec,
    pub(crate) log: Arc<Log>,
    guard: Guard,
    restart: bool,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    phase: Phase,
    pid: Option<u32>,
    /// Increases with every start, so that a probe knows whether it is still about this one.
    run: u64,
    stopping: bool,
    /// A thread watches the process, or waits to start it again.
    watched: bool,
}

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// Running this long makes a crash count as the first one.
const STEADY: Duration = Duration::from_secs(30);
const PROBE_EVERY: Duration = Duration::from_millis(50);

impl Supervised {
    pub(crate) fn new(spec: Spec, log: Arc<Log>, guard: Guard, restart: bool) -> Arc<Self> {
        let state = State { phase: Phase::Stopped, pid: None, run: 0, stopping: false, watched: false };
        Arc::new(Self { spec, log, guard, restart, state: Mutex::new(state), changed: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock().phase.clone()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.lock().pid
    }

    /// Starts it; fails if it runs already or cannot be run at all.
    pub(crate) fn start(self: &Arc<Self>) -> Result<()> {
        let mut state = self.lock();
        ensure!(state.pid.is_none() && !state.watched, "{} runs already", self.spec.name);
        state.stopping = false;
        let (child, guarded) = self.spawn(&mut state)?;
        state.watched = true;
        let this = Arc::clone(self);
        std::thread::spawn(move || this.watch(child, guarded));
        Ok(())
    }

    fn spawn(self: &Arc<Self>, state: &mut State) -> Result<(Child, Guarded)> {
        let spec = &self.spec;
        let mut command = Command::new(&spec.command[0]);
        command.args(&spec.command[1..]).current_dir(&spec.dir).envs(spec.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| {
            format!("{}: cannot run {} in {}", spec.name, spec.command[0], spec.dir.display())
        })?;
        let guarded = self.guard.watch(child.id());
        if let Some(out) = child.stdout.take() {
            self.log.follow(out);
        }
        if let Some(err) = child.stderr.take() {
            self.log.follow(err);
        }
        state.pid = Some(child.id());
        state.run += 1;
        state.phase = Phase::Starting;
        self.changed.notify_all();
        let (this, run) = (Arc::clone(self), state.run);
        std::thread::spawn(move || this.probe(run));
        Ok((child, guarded))
    }

    /// Waits for the end; starts the process again, later and later, where that is wanted.
    fn watch(self: Arc<Self>, mut child: Child, mut guarded: Guarded) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let started = Instant::now();
            let how = self.wait(child);
            drop(guarded);
            if started.elapsed() > STEADY {
                backoff = FIRST_BACKOFF;
            }
            let mut state = self.lock();
            let was_ready = state.phase == Phase::Ready;
            state.phase = if state.stopping { Phase::Stopped } else { Phase::Exited(how.clone()) };
            // A process that never was ready would hardly be so the next time: its failure is reported instead.
            let again = self.restart && !state.stopping && (was_ready || state.run > 1);
            state.watched = again;
            self.changed.notify_all();
            if !again {
                return;
            }
            self.log.note(term::RED, &format!("{how}; starts again in {}", term::elapsed(backoff)));
            let wait = self.changed.wait_timeout_while(state, backoff, |state| !state.stopping);
            let mut state = wait.unwrap_or_else(PoisonError::into_inner).0;
            backoff = (backoff * 2).min(MAX_BACKOFF);
            let next = if state.stopping { Err(None) } else { self.spawn(&mut state).map_err(Some) };
            match next {
                Ok(next) => (child, guarded) = next,
                Err(error) => {
                    state.watched = false;
                    state.phase = error.map_or(Phase::Stopped, |error| Phase::Exited(format!("{error:#}")));
                    self.changed.notify_all();
                    return;
                }
            }
        }
    }

    /// Waits until the process ends, ends what it left in its group, and says how it ended.
    fn wait(&self, mut child: Child) -> String {
        if let Some(pid) = to_pid(child.id()) {
            // Not reaped yet: the number stays taken, so the group that is killed is certainly this one.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while waitid(WaitId::Pid(pid), options).is_err_and(|error| error == rustix::io::Errno::INTR) {}
            signal_group(child.id(), Signal::KILL);
        }
        let mut state = self.lock();
        state.pid = None;
        match child.wait() {
            Ok(status) => format!("ended with {status}"),
            Err(error) => format!("cannot be waited for: {error}"),
        }
    }

    /// Asks until the process is ready or this run of it is over.
    fn probe(&self, run: u64) {
        loop {
            let ready = self.spec.probe.attempt();
            let mut state = self.lock();
            if state.run != run || state.phase != Phase::Starting {
                return;
            }
            if ready.is_ok() {
                state.phase = Phase::Ready;
                self.changed.notify_all();
                if run > 1 && self.restart {
                    self.log.note(term::GREEN, "ready again");
                }
                return;
            }
            let _ = self.changed.wait_timeout(state, PROBE_EVERY);
        }
    }

    /// Waits until it is ready; fails when it ended or the time is over, with its last lines.
    pub(crate) fn wait_ready(&self, within: Duration) -> Result<()> {
        let pending = |state: &mut State| state.phase == Phase::Starting;
        let waited = self.changed.wait_timeout_while(self.lock(), within, pending);
        let phase = waited.unwrap_or_else(PoisonError::into_inner).0.phase.clone();
        let name = &self.spec.name;
        match phase {
            Phase::Ready => Ok(()),
            Phase::Stopped => bail!("{name} is stopped"),
            Phase::Exited(how) => {
                bail!("{name} {how} before it was ready; its last lines:{}", self.last_lines())
            }
            Phase::Starting => {
                let why =
                    self.spec.probe.attempt().err().map(|error| format!(" ({error:#})")).unwrap_or_default();
                let time = term::elapsed(within);
                bail!("{name} was not ready within {time}{why}; its last lines:{}", self.last_lines())
            }
        }
    }

    fn last_lines(&self) -> String {
        // The reading threads may be a moment behind the end of the process.
        std::thread::sleep(Duration::from_millis(100));
        self.log.tail()
    }

    /// Waits until no process runs; false when the time was not enough.
    pub(crate) fn wait_exit(&self, within: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), within, |state| state.pid.is_some());
        waited.unwrap_or_else(PoisonError::into_inner).0.pid.is_none()
    }

    /// Sends a signal to the process alone, as a failure would meet it.
    pub(crate) fn kill(&self, signal: Signal) -> Result<()> {
        let state = self.lock();
        let pid = state.pid.and_then(to_pid).with_context(|| format!("{} does not run", self.spec.name))?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.spec.name))
    }

    /// Asks the whole group to end, and lets nothing start it again.
    pub(crate) fn begin_stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        if let Some(pid) = state.pid {
            signal_group(pid, Signal::TERM);
        }
        self.changed.notify_all();
    }

    /// Waits until it has ended; kills the group when `until` is over.
    pub(crate) fn finish_stop(&self, until: Instant) {
        let over = |state: &mut State| state.pid.is_some() || state.watched;
        let bound = until.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(self.lock(), bound, over);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if let Some(pid) = state.pid {
            self.log.note(term::YELLOW, "did not stop in time and is killed");
            signal_group(pid, Signal::KILL);
        }
        let bound = Duration::from_secs(5);
        let waited = self.changed.wait_timeout_while(state, bound, over);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.pid.is_none() {
            state.phase = Phase::Stopped;
        }
    }
}

fn to_pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// Signals every process of a group; one that is gone already is no error.
pub(crate) fn signal_group(group: u32, signal: Signal) {
    if let Some(pid) = to_pid(group) {
        let _ = kill_process_group(pid, signal);
    }
}
