//! Every source file opens with what it is for; Rust files by `//!`.

use anyhow::Result;

use super::{Verdict, files};
use crate::stack::Stack;

pub(super) fn run(stack: &Stack) -> Result<Verdict> {
    let root = stack.root();
    if !root.join(".git").exists() {
        return Ok(Verdict::Skipped("this is no git checkout".into()));
    }
    let mut findings = Vec::new();
    for file in files::list(root)? {
        // Contracts of others keep their own form.
        if file.starts_with("proto/google/") {
            continue;
        }
        let Some(openings) = openings(&file) else { continue };
        let Ok(text) = std::fs::read_to_string(root.join(&file)) else { continue };
        if !opens_with(&text, openings) {
            findings.push(format!("{file}: does not open with what it is for ({})", openings.join(" or ")));
        }
    }
    Ok(Verdict::of(findings))
}

/// How a file of this kind may open; `None` for files that are no source.
fn openings(file: &str) -> Option<&'static [&'static str]> {
    Some(match file.rsplit_once('.')?.1 {
        "rs" => &["//!"],
        "ts" | "mts" | "js" | "mjs" | "proto" => &["//", "/*"],
        "py" => &["\"\"\"", "#"],
        "sh" | "toml" | "http" => &["#"],
        _ => return None,
    })
}

fn opens_with(text: &str, openings: &[&str]) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("#!"));
    let first = lines.next().unwrap_or_default();
    // Cargo's manifests say it by their description.
    openings.iter().any(|opening| first.starts_with(opening)) || first == "[package]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_opens_with_code_is_found() {
        let check = |file: &str, text: &str| openings(file).is_none_or(|openings| opens_with(text, openings));
        assert!(check("a.rs", "//! For x.\nfn f() {}"));
        assert!(!check("a.rs", "// For x.\nfn f() {}"));
        assert!(!check("a.rs", "use x;"));
        assert!(check("a.ts", "// For x.") && !check("a.ts", "import x from \"y\";"));
        assert!(check("a.py", "\"\"\"For x.\"\"\"") && !check("a.py", "import x") && !check("a.py", ""));
        assert!(check("a.sh", "#!/bin/sh\n# For x.") && !check("a.sh", "#!/bin/sh\nset -e"));
        assert!(check("a.json", "{}"));
    }
}
