//! A measured child process: pinned to a core, with its CPU time and memory read from /proc, ended with us.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// The proxy's core.
pub(super) const PROXY_CORE: usize = 0;
/// The core of the load generator and the upstream.
pub(super) const LOAD_CORE: usize = 1;

/// A child on one core, with as many open files as the system allows.
pub(super) struct Pinned {
    name: String,
    child: Child,
}

impl Pinned {
    /// Starts `command` (program first). Its output goes to `log`.
    pub(super) fn start(name: &str, core: usize, command: &[String], log: &Path) -> Result<Self> {
        Self::start_with(name, core, command, &[], log)
    }

    /// As [`Pinned::start`], with environment variables.
    pub(super) fn start_with(
        name: &str,
        core: usize,
        command: &[String],
        env: &[(String, String)],
        log: &Path,
    ) -> Result<Self> {
        let file = fs::File::create(log).with_context(|| format!("create {}", log.display()))?;
        let mut child = pinned_command(core, command);
        child.envs(env.iter().cloned());
        child.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = child.spawn().with_context(|| format!("start {name}: {command:?}"))?;
        Ok(Self { name: name.into(), child })
    }

    /// The process's id; `exec` keeps it through the shell and taskset.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error if the process has ended.
    pub(super) fn check(&mut self, log: &Path) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}: {}", self.name, fs::read_to_string(log).unwrap_or_default());
        }
        Ok(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // SIGTERM first: nginx's master takes its worker along.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        for pid in tree(self.child.id()).into_iter().rev() {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
        let _ = self.child.wait();
    }
}

/// `command` on one core, with the soft limit of open files raised to the hard one.
pub(super) fn pinned_command(core: usize, command: &[String]) -> Command {
    let mut child = Command::new("sh");
    child.args(["-c", "ulimit -n \"$(ulimit -Hn)\"; exec \"$@\"", "sh", "taskset", "-c", &core.to_string()]);
    child.args(command);
    child
}

/// A helper of ours on the load's core: it says one line of JSON when it is ready or done.
pub(super) struct Helper {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Helper {
    /// Starts this program's hidden helper with `spec`.
    pub(super) fn start(program: &Path, spec: &super::helper::Spec) -> Result<Self> {
        let spec = serde_json::to_string(spec)?;
        let command = [&*program.to_string_lossy(), "bench", "--helper", &spec].map(String::from);
        let mut child = pinned_command(LOAD_CORE, &command);
        let mut child =
            child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start a helper")?;
        let lines = BufReader::new(child.stdout.take().context("the helper's output")?);
        Ok(Self { child, lines })
    }

    /// The next line that the helper prints.
    pub(super) fn line<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("a helper said {line:?}"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPU time that the process and its descendants have used, in µs.
pub(super) fn cpu_us(pid: u32) -> Result<f64> {
    let mut ticks = 0.0;
    for stat in each(pid, "stat")? {
        // The name in parentheses may hold spaces; utime and stime are the 14th and 15th fields.
        let after = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<&str> = after.split_whitespace().collect();
        ticks += fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    }
    Ok(ticks * 1e6 / clock_ticks())
}

/// The resident memory of the process and its descendants, in bytes.
pub(super) fn rss(pid: u32) -> Result<f64> {
    let mut kib = 0.0;
    for status in each(pid, "status")? {
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        kib += line.trim().trim_end_matches(" kB").parse::<f64>()?;
    }
    Ok(kib * 1024.0)
}

/// The file `name` of the process and of all its descendants. One that ended since the list was
/// made is left out; the process itself has to be there.
fn each(pid: u32, name: &str) -> Result<Vec<String>> {
    let read = |pid: u32| fs::read_to_string(format!("/proc/{pid}/{name}"));
    let mut texts = vec![read(pid).with_context(|| format!("process {pid}"))?];
    texts.extend(tree(pid).into_iter().skip(1).filter_map(|child| read(child).ok()));
    Ok(texts)
}

/// The process and all its descendants.
fn tree(pid: u32) -> Vec<u32> {
    let mut pids = vec![pid];
    let mut next = 0;
    while next < pids.len() {
        let tasks = fs::read_dir(format!("/proc/{}/task", pids[next])).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        next += 1;
    }
    pids
}

fn clock_ticks() -> f64 {
    let output = Command::new("getconf").arg("CLK_TCK").output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default();
    text.parse().unwrap_or(100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_and_memory_of_a_process_are_read() {
        // A child of the process ends again and again while it is measured.
        let script = "while :; do /bin/true; done";
        let mut child = Command::new("sh").args(["-c", script]).spawn().expect("a shell");
        let begin = Instant::now();
        let mut most = 0.0_f64;
        while most < 100_000.0 && begin.elapsed() < Duration::from_secs(10) {
            most = most.max(cpu_us(child.id()).expect("cpu"));
        }
        let memory = rss(child.id());
        let _ = child.kill();
        let _ = child.wait();
        assert!(most >= 100_000.0, "{most} us of CPU seen in 10 s");
        assert!(memory.expect("memory") > 100_000.0);
        let gone = cpu_us(child.id()).expect_err("it has ended").to_string();
        assert!(gone.starts_with("process "), "{gone}");
    }
}
