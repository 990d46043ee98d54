//! The tools that must be on the machine, and how to get one that is missing or too old.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Result, bail};

use super::manifest::Manifest;

/// The oldest Node.js that can run npm for the set-up; the services run on the Node.js that npm brings.
const NODE: (u32, u32) = (18, 0);
/// The oldest Python that the services run on.
const PYTHON: (u32, u32) = (3, 11);
/// Where a Python is looked for, newest first, unless the variable `PYTHON` names one.
const PYTHONS: [&str; 6] = ["python3.14", "python3.13", "python3.12", "python3.11", "python3", "python"];

/// Checks every tool that the named processes want, and reports all that are missing at once.
pub(crate) fn check<'a>(manifest: &Manifest, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut missing = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        for tool in &manifest.process(name)?.tools {
            if seen.insert(tool)
                && let Err(advice) = check_one(tool)
            {
                missing.push(format!("{tool}, for {name}: {advice}"));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("some tools are missing:\n  {}", missing.join("\n  "));
}

fn check_one(tool: &str) -> Result<(), String> {
    match tool {
        "cargo" => found("cargo", "install Rust with rustup: https://rustup.rs"),
        "node" => {
            let advice = "install Node.js 24 with npm: https://nodejs.org, `brew install node`, or Debian's `apt-get \
                          install nodejs npm`";
            match version("node") {
                None => Err(format!("not found; {advice}")),
                Some(have) if have < NODE => Err(format!(
                    "version {}.{} is too old, {}.{} or newer is needed; {advice}",
                    have.0, have.1, NODE.0, NODE.1
                )),
                Some(_) => found("npm", "it comes with Node.js, or as Debian's package npm"),
            }
        }
        "python3" => python().map(drop),
        other => found(other, "install it and put its folder on the PATH"),
    }
}

fn found(tool: &str, advice: &str) -> Result<(), String> {
    output(tool, &["--version"]).map(drop).ok_or_else(|| format!("{tool} not found; {advice}"))
}

/// The Python to make virtual environments with: new enough, and able to.
pub(crate) fn python() -> Result<String, String> {
    static FOUND: OnceLock<Result<String, String>> = OnceLock::new();
    FOUND.get_or_init(find_python).clone()
}

fn find_python() -> Result<String, String> {
    let advice = "install Python 3.11 or newer with venv: https://www.python.org, `brew install python`, or Debian's \
                  `apt-get install python3 python3-venv`; the variable PYTHON may name one that is not on the PATH";
    let named = std::env::var("PYTHON").ok();
    let candidates: Vec<&str> = named.as_deref().map_or_else(|| PYTHONS.to_vec(), |named| vec![named]);
    let mut problem = "not found".to_owned();
    for candidate in candidates {
        let Some(have) = version(candidate) else { continue };
        if have < PYTHON {
            problem = format!("{candidate} is version {}.{}, 3.11 or newer is needed", have.0, have.1);
        } else if output(candidate, &["-c", "import venv, ensurepip"]).is_none() {
            problem = format!("{candidate} has no venv module (Debian: apt-get install python3-venv)");
        } else {
            return Ok(candidate.to_owned());
        }
    }
    Err(format!("{problem}; {advice}"))
}

/// Major and minor of what `TOOL --version` prints.
fn version(tool: &str) -> Option<(u32, u32)> {
    parse_version(&output(tool, &["--version"])?)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut parts = digits.split(['.', '-', '+', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.trim().parse().ok()?))
}

fn output(tool: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(tool).args(args).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_tools_print() {
        assert_eq!(parse_version("v20.20.2\n"), Some((20, 20)));
        assert_eq!(parse_version("Python 3.11.7\n"), Some((3, 11)));
        assert_eq!(parse_version("nonsense"), None);
    }

    #[test]
    fn a_missing_tool_comes_with_its_process_and_advice() {
        let text = "[[process]]\nname = \"p\"\ntools = [\"no-such-tool-here\"]\ncommand = [\"x\"]\n\
                    ready = { tcp = \"127.0.0.1:1\" }";
        let manifest = Manifest::parse(text).unwrap();
        let error = check(&manifest, ["p"].into_iter()).unwrap_err().to_string();
        assert!(error.contains("no-such-tool-here, for p: ") && error.contains("install it"), "{error}");
    }
}
