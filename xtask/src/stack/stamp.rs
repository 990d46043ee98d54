//! Whether a set-up step is up to date: a stamp holds the hash of everything that the step depends on, and counts
//! only while the step's outputs exist.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Folders that hold what tools made.
const MADE: [&str; 7] = ["node_modules", ".venv", "__pycache__", "target", ".git", "gen", ".models"];

/// Whether a folder of this name holds what tools made: never a step's input, and removed as a whole.
pub fn is_made_folder(name: &str) -> bool {
    MADE.contains(&name)
}

/// A step's stamp file and the hash that it should hold.
pub(crate) struct Stamp {
    file: PathBuf,
    hash: String,
    outputs: Vec<PathBuf>,
}

impl Stamp {
    /// `command`: what the step runs; `inputs` and `outputs` relative to `dir`. A missing input is an error.
    pub(crate) fn new(
        file: PathBuf,
        command: &[String],
        dir: &Path,
        inputs: &[String],
        outputs: &[String],
    ) -> Result<Self> {
        let mut hash = Sha256::new();
        for part in command {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        for input in inputs {
            add(&mut hash, &dir.join(input), input)?;
        }
        let hash = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { file, hash, outputs: outputs.iter().map(|output| dir.join(output)).collect() })
    }

    /// Whether the step ran with these inputs and its outputs are still there.
    pub(crate) fn is_current(&self) -> bool {
        std::fs::read_to_string(&self.file).is_ok_and(|held| held == self.hash)
            && self.outputs.iter().all(|output| output.exists())
    }

    /// The outputs that do not exist.
    pub(crate) fn missing_outputs(&self) -> Vec<String> {
        self.outputs.iter().filter(|o| !o.exists()).map(|o| o.display().to_string()).collect()
    }

    /// Remembers that the step ran.
    pub(crate) fn write(&self) -> Result<()> {
        let dir = self.file.parent().context("the stamp has no folder")?;
        std::fs::create_dir_all(dir)?;
        std::fs::write(&self.file, &self.hash)
            .with_context(|| format!("cannot write {}", self.file.display()))
    }

    /// Forgets it, before the step runs again: what a broken-off run leaves must not count.
    pub(crate) fn remove(&self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Adds a file, or every file of a folder in the order of their names.
fn add(hash: &mut Sha256, path: &Path, name: &str) -> Result<()> {
    if path.is_dir() {
        let mut entries: Vec<_> = std::fs::read_dir(path)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let child = entry.file_name().to_string_lossy().into_owned();
            if !is_made_folder(&child) {
                add(hash, &entry.path(), &format!("{name}/{child}"))?;
            }
        }
        return Ok(());
    }
    let mut contents = Vec::new();
    let mut file =
        std::fs::File::open(path).with_context(|| format!("the input {} cannot be read", path.display()))?;
    file.read_to_end(&mut contents)?;
    hash.update(name.as_bytes());
    hash.update((contents.len() as u64).to_le_bytes());
    hash.update(&contents);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Step {
        dir: tempfile::TempDir,
        command: Vec<String>,
    }

    impl Step {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("in")).unwrap();
            std::fs::write(dir.path().join("in/a"), "one").unwrap();
            std::fs::write(dir.path().join("out"), "").unwrap();
            Self { dir, command: vec!["make".into()] }
        }

        fn stamp(&self) -> Stamp {
            let path = self.dir.path();
            Stamp::new(path.join("stamps/s"), &self.command, path, &["in".into()], &["out".into()]).unwrap()
        }
    }

    #[test]
    fn a_step_that_never_ran_is_not_current_and_one_that_ran_is() {
        let step = Step::new();
        assert!(!step.stamp().is_current());
        step.stamp().write().unwrap();
        assert!(step.stamp().is_current());
    }

    #[test]
    fn a_changed_input_a_new_input_or_another_command_makes_it_stale() {
        let mut step = Step::new();
        step.stamp().write().unwrap();
        std::fs::write(step.dir.path().join("in/a"), "two").unwrap();
        assert!(!step.stamp().is_current());
        step.stamp().write().unwrap();
        std::fs::write(step.dir.path().join("in/b"), "").unwrap();
        assert!(!step.stamp().is_current());
        step.stamp().write().unwrap();
        step.command.push("-B".into());
        assert!(!step.stamp().is_current());
    }

    #[test]
    fn a_missing_output_or_a_broken_off_run_makes_it_stale() {
        let step = Step::new();
        step.stamp().write().unwrap();
        std::fs::remove_file(step.dir.path().join("out")).unwrap();
        assert!(!step.stamp().is_current());
        std::fs::write(step.dir.path().join("out"), "").unwrap();
        step.stamp().remove();
        assert!(!step.stamp().is_current());
    }

    #[test]
    fn an_input_that_does_not_exist_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let stamp = Stamp::new(dir.path().join("s"), &[], dir.path(), &["nothing".into()], &[]);
        let error = format!("{:#}", stamp.err().unwrap());
        assert!(error.contains("nothing"), "{error}");
    }
}
