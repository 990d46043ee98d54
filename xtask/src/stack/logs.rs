//! What the processes write, line by line: merged on the terminal behind a coloured name, or captured in one
//! file per process. The last lines are always kept, to be shown when something fails.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anstyle::Style;
use anyhow::{Context, Result};

use crate::term;

/// Where the processes' output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logs {
    /// The terminal, each line behind its process's name.
    Console,
    /// `{state}/logs/NAME.log`.
    Files,
}

/// How many lines are kept for a failure's report.
const KEPT: usize = 40;

/// One process's output.
pub(crate) struct Log {
    prefix: String,
    file: Option<(PathBuf, Mutex<File>)>,
    last: Mutex<VecDeque<String>>,
}

impl Log {
    /// `columns`: the width to which names are padded.
    pub(crate) fn open(
        logs: Logs,
        dir: &Path,
        name: &str,
        style: Style,
        columns: usize,
    ) -> Result<Arc<Self>> {
        let file = match logs {
            Logs::Console => None,
            Logs::Files => {
                let path = dir.join(format!("{name}.log"));
                std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
                let file = OpenOptions::new().create(true).append(true).open(&path);
                let file = file.with_context(|| format!("cannot write {}", path.display()))?;
                Some((path, Mutex::new(file)))
            }
        };
        let prefix = term::paint(style, format!("{name:columns$} │"));
        Ok(Arc::new(Self { prefix, file, last: Mutex::default() }))
    }

    /// Takes every line of `pipe` on a thread of its own, until the pipe ends.
    pub(crate) fn follow(self: &Arc<Self>, pipe: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                log.line(String::from_utf8_lossy(&line).trim_end());
                line.clear();
            }
        });
    }

    /// Writes one line.
    pub(crate) fn line(&self, line: &str) {
        match &self.file {
            Some((_, file)) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = writeln!(file, "{line}");
            }
            None => term::say(format_args!("{} {line}", self.prefix)),
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == KEPT {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    }

    /// A line of the supervisor's own, about the process.
    pub(crate) fn note(&self, style: Style, text: &str) {
        match &self.file {
            Some(_) => self.line(&format!("[stack] {text}")),
            None => term::say(format_args!("{} {}", self.prefix, term::paint(style, text))),
        }
    }

    /// The captured file, if any.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(path, _)| path.as_path())
    }

    /// The last lines, indented, for an error's text.
    pub(crate) fn tail(&self) -> String {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().map(|line| format!("\n    {line}")).collect()
    }
}
