//! Where the judges' programs come from: each is installed at its first run, in `target/judges`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// `tests/judges/NAME`: what belongs to a judge.
pub(crate) fn folder(name: &str) -> PathBuf {
    root().join("tests/judges").join(name)
}

/// The Node.js that the lock file pins, or another one.
pub(crate) fn node() -> PathBuf {
    let pinned = root().join("services-node/node_modules/.bin/node");
    if pinned.exists() { pinned } else { "node".into() }
}

/// A program of a crate, at this version.
pub(crate) fn cargo_program(package: &str, version: &str, program: &str) -> PathBuf {
    let to = installed(&format!("{package}-{version}"));
    let program = to.join("bin").join(program);
    if !program.exists() {
        let package = format!("{package}@{version}");
        run(Command::new("cargo").args(["install", "--locked", "--quiet", &package, "--root"]).arg(&to));
    }
    program
}

/// A virtual environment's Python with the packages of `tests/judges/NAME/requirements.txt`.
pub(crate) fn python(name: &str) -> PathBuf {
    let wanted = folder(name).join("requirements.txt");
    let to = installed(name);
    let (python, record) = (to.join("bin/python"), to.join("requirements.txt"));
    let is_same = std::fs::read(&record).is_ok_and(|had| had == std::fs::read(&wanted).unwrap());
    if !is_same {
        let found = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
        run(Command::new(found).args(["-m", "venv", "--clear"]).arg(&to));
        let pip =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"];
        run(Command::new(&python).args(pip).arg(&wanted));
        std::fs::copy(&wanted, &record).unwrap();
    }
    python
}

fn installed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("judges").join(name)
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}
