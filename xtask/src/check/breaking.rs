//! Whether the contracts still serve those who were built against the ones on main: `buf breaking`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Verdict;
use crate::stack::Stack;

pub(super) fn run(stack: &Stack) -> Result<Verdict> {
    let root = stack.root();
    let base = match base(root) {
        Ok(base) => base,
        Err(why) => return Ok(Verdict::Skipped(why)),
    };
    if git(root, &["cat-file", "-e", &format!("{base}:proto/buf.yaml")]).is_none() {
        return Ok(Verdict::Skipped(format!("{base} has no contracts")));
    }
    let buf = root.join("services-node/node_modules/.bin/buf");
    ensure!(
        buf.exists(),
        "buf is not installed: run `cargo xtask check` without a name, or `cargo xtask up`"
    );
    let old = root.join(".state/breaking");
    let _ = std::fs::remove_dir_all(&old);
    std::fs::create_dir_all(&old)?;
    export(root, &base, &old)?;
    // Through npm, so that it runs on the pinned Node.js.
    let mut command = Command::new("npm");
    command.args(["exec", "--offline", "--", "buf", "breaking"]).arg(root.join("proto"));
    command.arg("--against").arg(old.join("proto")).current_dir(root.join("services-node"));
    let outcome = crate::tasks::run_captured(command)?;
    std::fs::remove_dir_all(&old)?;
    Ok(if outcome.ok {
        Verdict::Passed
    } else {
        Verdict::Failed(format!("against {base}:\n{}", outcome.output))
    })
}

/// What to compare with: main, if this is something else; otherwise the last commit if the contracts are being
/// edited; otherwise the commit before. The error says why there is none.
fn base(root: &Path) -> Result<String, String> {
    let head = git(root, &["rev-parse", "HEAD"]).ok_or("this is no git checkout with a commit")?;
    for main in ["origin/main", "main"] {
        let commit = git(root, &["rev-parse", "--verify", "--quiet", &format!("{main}^{{commit}}")]);
        if commit.is_some_and(|commit| commit != head) {
            return Ok(main.to_owned());
        }
    }
    if git(root, &["diff", "--quiet", "HEAD", "--", "proto"]).is_none() {
        return Ok("HEAD".to_owned());
    }
    match git(root, &["rev-parse", "--verify", "--quiet", "HEAD~1^{commit}"]) {
        Some(_) => Ok("HEAD~1".to_owned()),
        None => Err("the history holds no commit to compare with (a shallow clone?)".to_owned()),
    }
}

/// What git prints; `None` when it fails.
fn git(root: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).current_dir(root).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn export(root: &Path, commit: &str, to: &Path) -> Result<()> {
    let mut archive = Command::new("git")
        .args(["archive", "--format=tar", commit, "proto"])
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run git")?;
    let pipe = archive.stdout.take().context("git archive has no output")?;
    let status = Command::new("tar")
        .args(["-xf", "-"])
        .current_dir(to)
        .stdin(pipe)
        .status()
        .context("cannot run tar")?;
    ensure!(archive.wait()?.success() && status.success(), "the contracts of {commit} cannot be read");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(dir: &Path, args: &[&str]) {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"];
        let status =
            Command::new("git").args(identity).args(args).current_dir(dir).stdout(Stdio::null()).status();
        assert!(status.unwrap().success(), "git {args:?}");
    }

    #[test]
    fn the_base_is_main_or_what_came_before() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert!(base(dir).unwrap_err().contains("no git checkout"));
        run(dir, &["init", "--quiet", "--initial-branch=main"]);
        std::fs::create_dir(dir.join("proto")).unwrap();
        std::fs::write(dir.join("proto/a.proto"), "1").unwrap();
        run(dir, &["add", "."]);
        run(dir, &["commit", "--quiet", "-m", "one"]);
        assert!(base(dir).unwrap_err().contains("shallow"));
        std::fs::write(dir.join("proto/a.proto"), "2").unwrap();
        assert_eq!(base(dir).unwrap(), "HEAD");
        run(dir, &["commit", "--quiet", "-am", "two"]);
        assert_eq!(base(dir).unwrap(), "HEAD~1");
        run(dir, &["checkout", "--quiet", "-b", "work"]);
        run(dir, &["commit", "--quiet", "--allow-empty", "-m", "three"]);
        assert_eq!(base(dir).unwrap(), "main");
    }

    #[test]
    fn the_contracts_of_a_commit_are_exported() {
        let dir = tempfile::tempdir().unwrap();
        let (repository, to) = (dir.path().join("r"), dir.path().join("to"));
        std::fs::create_dir_all(repository.join("proto")).unwrap();
        std::fs::create_dir(&to).unwrap();
        std::fs::write(repository.join("proto/a.proto"), "old").unwrap();
        run(&repository, &["init", "--quiet", "--initial-branch=main"]);
        run(&repository, &["add", "."]);
        run(&repository, &["commit", "--quiet", "-m", "one"]);
        std::fs::write(repository.join("proto/a.proto"), "new").unwrap();
        export(&repository, "HEAD", &to).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("proto/a.proto")).unwrap(), "old");
    }
}
