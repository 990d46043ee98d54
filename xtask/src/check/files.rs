//! What must not be in the repository: paths of one machine, download addresses in lock files, large files.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Verdict;
use crate::stack::Stack;

const MAX_BYTES: u64 = 1_000_000;

pub(super) fn run(stack: &Stack) -> Result<Verdict> {
    let root = stack.root();
    if !root.join(".git").exists() {
        return Ok(Verdict::Skipped("this is no git checkout".into()));
    }
    let mut findings = Vec::new();
    for file in list(root)? {
        let path = root.join(&file);
        let Ok(meta) = std::fs::metadata(&path) else { continue };
        if meta.len() > MAX_BYTES {
            findings.push(format!("{file}: {} bytes; at most {MAX_BYTES}", meta.len()));
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            findings.extend(inspect(&file, &text));
        }
    }
    Ok(Verdict::of(findings))
}

/// The repository's files, new ones included, ignored ones not.
pub(super) fn list(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let output = git.output().context("cannot run git")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut names: Vec<_> = names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    // A file that is changed and conflicting is listed more than once.
    names.dedup();
    Ok(names)
}

/// What is wrong with one file's text.
fn inspect(file: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let is_lock =
        file.ends_with("package-lock.json") || (file.contains("requirements") && file.ends_with(".txt"));
    for (index, line) in text.lines().enumerate() {
        let at = format!("{file}:{}", index + 1);
        if has_home_path(line) {
            findings.push(format!("{at}: a path of one machine: {}", line.trim()));
        }
        if is_lock && has_address(line) {
            findings.push(format!("{at}: a lock file names an address: {}", line.trim()));
        }
    }
    findings
}

/// A folder of one person's, on Linux or macOS; container images' own users are no persons.
fn has_home_path(line: &str) -> bool {
    [concat!("/ho", "me/"), concat!("/Use", "rs/")].into_iter().any(|home| {
        line.match_indices(home).any(|(at, _)| {
            let begins =
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '.' || c == '_' || c == '}');
            begins && line[at + home.len()..].starts_with(|c: char| c.is_ascii_alphabetic())
        })
    })
}

fn has_address(line: &str) -> bool {
    line.contains("--index-url") || line.contains("\"resolved\": \"http") || line.contains("--extra-index")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_persons_folder_is_found_and_a_route_is_not() {
        let line = ["see /ho", "me/ann/project"].concat();
        assert_eq!(inspect("a.md", &line).len(), 1);
        assert!(inspect("a.md", "GET /api/home/page").is_empty());
        assert!(inspect("a.md", &["https://x.org/ho", "me/about"].concat()).is_empty());
    }

    #[test]
    fn an_address_in_a_lock_file_is_found() {
        let line = "      \"resolved\": \"https://registry.example/a.tgz\",";
        assert_eq!(inspect("services-node/package-lock.json", line).len(), 1);
        assert!(inspect("notes.md", line).is_empty());
        assert_eq!(inspect("a/requirements.txt", "--index-url https://x").len(), 1);
    }
}
