//! `stack.toml` as types: the processes of the stack, their set-up, command and readiness, and the test suites
//! and checks of every language. Loading checks everything that can be checked without running anything.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Port names and their default numbers.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// Secrets that are made at the first start.
    #[serde(default)]
    pub secrets: Secrets,
    /// The processes, in the order in which they are shown.
    #[serde(default)]
    pub process: Vec<Process>,
    /// Test suites, in the order in which they run.
    #[serde(default)]
    pub suite: Vec<Task>,
    /// Checks that are one command each.
    #[serde(default)]
    pub check: Vec<Task>,
}

/// The `[secrets]` table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// One file each in `{state}/secrets`.
    pub names: Vec<String>,
}

/// One process of the stack.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// What logs and commands call it.
    pub name: String,
    /// Where its commands run, relative to the repository.
    #[serde(default = "dot")]
    pub dir: String,
    /// Tools that must be installed: see `tools.rs` for those whose version is checked too.
    #[serde(default)]
    pub tools: Vec<String>,
    /// The ports it listens on, by name.
    #[serde(default)]
    pub ports: Vec<String>,
    /// What must be made before it can start, in order.
    #[serde(default)]
    pub setup: Vec<Step>,
    /// What its tests and checks need besides, in order.
    #[serde(default)]
    pub dev_setup: Vec<Step>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Additional environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How to see that it is ready.
    pub ready: Ready,
    /// Files and folders, relative to the repository, whose change restarts it under `--watch`.
    #[serde(default)]
    pub watch: Vec<String>,
}

/// A set-up step: skipped while its inputs, its command and its tools are as they were and its outputs exist.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What the progress line says.
    pub name: String,
    /// The program and its arguments.
    pub run: Vec<String>,
    /// Additional environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Files and folders, relative to the process's folder, whose contents decide whether it runs again.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// What must exist afterwards, relative to the process's folder.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// Runs every time: for tools that know by themselves what is up to date, such as cargo.
    #[serde(default)]
    pub always: bool,
}

/// How to see that a process is ready; exactly one of the first three is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// A URL that answers 200.
    pub http: Option<String>,
    /// An address whose `grpc.health.v1.Health` says SERVING.
    pub grpc: Option<String>,
    /// An address that accepts a connection.
    pub tcp: Option<String>,
    /// How long that may take.
    #[serde(default = "sixty")]
    pub timeout_seconds: u64,
}

/// A test suite or a check: one command.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// What the summary calls it, and what selects it on the command line.
    pub name: String,
    /// Where it runs, relative to the repository.
    #[serde(default = "dot")]
    pub dir: String,
    /// The program and its arguments.
    pub run: Vec<String>,
    /// Additional environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The processes whose set-up it needs. Absent: all.
    pub needs: Option<Vec<String>>,
    /// Whether a suite runs without being named. One that takes long, or installs much, need not.
    #[serde(default = "yes")]
    pub default: bool,
}

fn dot() -> String {
    ".".into()
}

fn yes() -> bool {
    true
}

fn sixty() -> u64 {
    60
}

impl Process {
    /// Its set-up steps in order; with `dev`, also those of its tests and checks.
    pub fn steps(&self, dev: bool) -> impl Iterator<Item = &Step> {
        self.setup.iter().chain(self.dev_setup.iter().filter(move |_| dev))
    }
}

impl Manifest {
    /// Reads and checks a manifest file.
    pub fn load(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not valid", path.display()))
    }

    /// Parses and checks a manifest: names are unique, every placeholder is known, every process can be started.
    pub fn parse(text: &str) -> Result<Self> {
        let manifest: Self = toml::from_str(text)?;
        unique("process", manifest.process.iter().map(|p| &p.name))?;
        unique("suite", manifest.suite.iter().map(|t| &t.name))?;
        unique("check", manifest.check.iter().map(|t| &t.name))?;
        for (name, port) in &manifest.ports {
            ensure!(*port != 0, "ports.{name} = 0: a default port must be from 1 to 65535");
        }
        for process in &manifest.process {
            manifest.check_process(process).with_context(|| format!("process {:?}", process.name))?;
        }
        for task in manifest.suite.iter().chain(&manifest.check) {
            manifest.check_task(task).with_context(|| format!("suite or check {:?}", task.name))?;
        }
        for check in &manifest.check {
            ensure!(
                check.default,
                "check {:?}: default = false is for suites; checks always run",
                check.name
            );
        }
        Ok(manifest)
    }

    /// The process called `name`.
    pub fn process(&self, name: &str) -> Result<&Process> {
        self.process.iter().find(|p| p.name == name).with_context(|| {
            let known: Vec<_> = self.process.iter().map(|p| p.name.as_str()).collect();
            format!("there is no process {name:?}; known: {}", known.join(", "))
        })
    }

    fn check_process(&self, process: &Process) -> Result<()> {
        ensure!(!process.command.is_empty(), "command is empty");
        let ready = &process.ready;
        let given = [&ready.http, &ready.grpc, &ready.tcp].iter().filter(|r| r.is_some()).count();
        ensure!(given == 1, "ready must have exactly one of http, grpc, tcp");
        for port in &process.ports {
            ensure!(self.ports.contains_key(port), "ports: {port:?} is not in [ports]");
        }
        unique("setup step", process.steps(true).map(|s| &s.name))?;
        for step in process.steps(true) {
            ensure!(!step.run.is_empty(), "setup {:?}: run is empty", step.name);
            let stamped = !step.inputs.is_empty() || !step.outputs.is_empty();
            ensure!(
                stamped != step.always,
                "setup {:?}: give inputs and outputs, or `always = true`, not both",
                step.name
            );
            self.check_texts(step.run.iter().chain(step.env.values()))?;
        }
        let probe = ready.http.iter().chain(&ready.grpc).chain(&ready.tcp);
        self.check_texts(process.command.iter().chain(process.env.values()).chain(probe))
    }

    fn check_task(&self, task: &Task) -> Result<()> {
        ensure!(!task.run.is_empty(), "run is empty");
        for name in task.needs.iter().flatten() {
            self.process(name)?;
        }
        self.check_texts(task.run.iter().chain(task.env.values()))
    }

    fn check_texts<'a>(&self, texts: impl Iterator<Item = &'a String>) -> Result<()> {
        for text in texts {
            interpolate(text, |key| self.is_placeholder(key).then(String::new))?;
        }
        Ok(())
    }

    fn is_placeholder(&self, key: &str) -> bool {
        match key.split_once('.') {
            Some(("port", name)) => self.ports.contains_key(name),
            Some(("secret", name)) => self.secrets.names.iter().any(|n| n == name),
            Some(_) => false,
            None => PLACEHOLDERS.contains(&key),
        }
    }
}

/// Placeholders besides `{port.NAME}` and `{secret.NAME}`.
const PLACEHOLDERS: [&str; 5] = ["root", "state", "bin", "profile", "python"];

/// Replaces every `{key}` of lower-case letters, digits, `.` and `-` by what `value` says; other braces stay.
pub(crate) fn interpolate(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        out.push_str(&rest[..start]);
        let inner = &rest[start + 1..];
        let end =
            inner.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-'));
        match end {
            Some(end) if end > 0 && inner[end..].starts_with('}') => {
                let key = &inner[..end];
                let Some(found) = value(key) else {
                    bail!(
                        "{{{key}}} in {text:?} is not known; there are {{port.NAME}} and {{secret.NAME}} for names in \
                         [ports] and [secrets], and {}",
                        PLACEHOLDERS.map(|p| format!("{{{p}}}")).join(", ")
                    );
                };
                out.push_str(&found);
                rest = &inner[end + 1..];
            }
            _ => {
                out.push('{');
                rest = inner;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        ensure!(!name.is_empty(), "a {what} has an empty name");
        ensure!(seen.insert(name), "two entries of {what} are called {name:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"
        [ports]
        web = 8080
        [secrets]
        names = ["key"]
        [[process]]
        name = "web"
        ports = ["web"]
        command = ["sh", "-c", "echo ${HOME} {port.web} {secret.key}"]
        ready = { tcp = "127.0.0.1:{port.web}" }
    "#;

    fn error(text: &str) -> String {
        format!("{:#}", Manifest::parse(text).expect_err("must be refused"))
    }

    #[test]
    fn a_small_manifest_is_read() {
        let manifest = Manifest::parse(ONE).unwrap();
        assert_eq!(manifest.process("web").unwrap().dir, ".");
        assert_eq!(manifest.process[0].ready.timeout_seconds, 60);
    }

    #[test]
    fn an_unknown_key_is_named() {
        assert!(error(&ONE.replace("command =", "comand =")).contains("comand"));
    }

    #[test]
    fn an_unknown_placeholder_is_named_with_its_process() {
        let message = error(&ONE.replace("{port.web}\"", "{port.wbe}\""));
        assert!(message.contains("{port.wbe}") && message.contains("\"web\""), "{message}");
    }

    #[test]
    fn readiness_is_one_of_three() {
        let message = error(&ONE.replace("{ tcp =", "{ http = \"x\", tcp ="));
        assert!(message.contains("exactly one of http, grpc, tcp"), "{message}");
    }

    #[test]
    fn two_processes_of_one_name_are_refused() {
        let twice =
            format!("{ONE}\n[[process]]\nname = \"web\"\ncommand = [\"x\"]\nready = {{ tcp = \"x\" }}");
        assert!(error(&twice).contains("\"web\""));
    }

    #[test]
    fn a_step_has_a_stamp_or_runs_always() {
        let step = ONE.replace("command =", "setup = [{ name = \"s\", run = [\"true\"] }]\ncommand =");
        assert!(error(&step).contains("always = true"));
    }

    #[test]
    fn only_suites_can_wait_to_be_named() {
        let task = "name = \"slow\"\nrun = [\"true\"]\ndefault = false";
        let suite = Manifest::parse(&format!("{ONE}\n[[suite]]\n{task}")).unwrap();
        assert!(!suite.suite[0].default);
        assert!(
            error(&format!("{ONE}\n[[check]]\n{task}")).contains("\"slow\": default = false is for suites")
        );
    }

    #[test]
    fn an_unknown_process_is_answered_with_the_known_ones() {
        let manifest = Manifest::parse(ONE).unwrap();
        assert!(format!("{:#}", manifest.process("wep").unwrap_err()).contains("known: web"));
    }

    #[test]
    fn only_placeholders_are_replaced() {
        let value = |key: &str| (key == "root").then(|| "/r".to_owned());
        assert_eq!(
            interpolate("{root}/a ${HOME} {} {\"a\":1} {", value).unwrap(),
            "/r/a ${HOME} {} {\"a\":1} {"
        );
        assert!(interpolate("{rot}", value).is_err());
    }
}
