//! Finds what a source file imports, for the layer rules: by reading, not by compiling, so that one small reader
//! serves three languages. Comments and inline Rust test modules are left out.

use std::path::Path;

use serde::Deserialize;

/// How a service's files import each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Language {
    Rust,
    Typescript,
    Python,
}

/// One import, with its line.
#[derive(Debug, PartialEq)]
pub(super) struct Import {
    pub(super) line: usize,
    pub(super) target: Target,
}

/// What is imported.
#[derive(Debug, PartialEq)]
pub(super) enum Target {
    /// A path inside the service, from its root: `["edge", "problem"]`.
    Inside(Vec<String>),
    /// A file outside of the service's root.
    Outside(String),
    /// A package by name.
    Package(String),
}

impl Language {
    pub(super) fn owns(self, file: &Path) -> bool {
        let extension = file.extension().and_then(|extension| extension.to_str());
        extension
            == Some(match self {
                Self::Rust => "rs",
                Self::Typescript => "ts",
                Self::Python => "py",
            })
    }

    /// The imports of the file at `path` (its parts from the root, the last without extension).
    /// `package`: the service's own package, as Python names it.
    pub(super) fn imports(self, path: &[String], package: &str, text: &str) -> Vec<Import> {
        match self {
            Self::Rust => rust(path, text),
            Self::Typescript => typescript(path, text),
            Self::Python => python(path, package, text),
        }
    }
}

fn owned(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

/// Blank for lines that are comments, so that line numbers stay.
fn code<'a>(text: &'a str, comment: &'static str) -> impl Iterator<Item = (usize, &'a str)> {
    let line = move |(index, line): (usize, &'a str)| {
        (index + 1, if line.trim_start().starts_with(comment) { "" } else { line })
    };
    text.lines().enumerate().map(line)
}

fn typescript(path: &[String], text: &str) -> Vec<Import> {
    let mut imports = Vec::new();
    for (line, code) in code(text, "//") {
        let from = ["from \"", "import \"", "import(\"", "from '", "import '", "import('"];
        for marker in from {
            let Some((before, rest)) = code.split_once(marker) else { continue };
            // `Array.from "` and such are no imports.
            if before.ends_with(|c: char| c.is_alphanumeric() || c == '.') {
                continue;
            }
            let quote = if marker.ends_with('"') { '"' } else { '\'' };
            let Some((specifier, _)) = rest.split_once(quote) else { continue };
            imports.push(Import { line, target: resolve(path, specifier) });
            break;
        }
    }
    imports
}

fn resolve(path: &[String], specifier: &str) -> Target {
    if !specifier.starts_with('.') {
        return Target::Package(specifier.to_owned());
    }
    let mut parts: Vec<String> = path[..path.len() - 1].to_vec();
    for part in specifier.split('/') {
        match part {
            "." => {}
            ".." if parts.pop().is_none() => return Target::Outside(specifier.to_owned()),
            ".." => {}
            name => parts.push(name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned()),
        }
    }
    Target::Inside(parts)
}

fn python(path: &[String], package: &str, text: &str) -> Vec<Import> {
    let mut imports = Vec::new();
    for (line, code) in code(text, "#") {
        let code = code.trim();
        let mut add = |target| imports.push(Import { line, target });
        if let Some((module, names)) = code.strip_prefix("from ").and_then(|rest| rest.split_once(" import "))
        {
            let dots = module.chars().take_while(|c| *c == '.').count();
            let base = if dots > 0 {
                // A package's own file counts as the package.
                let depth =
                    if path.last().is_some_and(|name| name == "__init__") { dots } else { dots.max(1) };
                if depth > path.len() {
                    add(Target::Outside(module.to_owned()));
                    continue;
                }
                let mut base = path[..path.len() - depth].to_vec();
                base.extend(module[dots..].split('.').filter(|part| !part.is_empty()).map(str::to_owned));
                base
            } else {
                match inside(module, package) {
                    Some(base) => base,
                    None => {
                        add(Target::Package(module.to_owned()));
                        continue;
                    }
                }
            };
            if !base.is_empty() {
                add(Target::Inside(base));
                continue;
            }
            // From the package itself: each name is a module.
            for name in names.trim_matches(['(', ')']).split(',') {
                let name = name.split_whitespace().next().unwrap_or_default();
                if !name.is_empty() {
                    add(Target::Inside(owned(&[name])));
                }
            }
        } else if let Some(modules) = code.strip_prefix("import ") {
            for module in modules.split(',').filter_map(|module| module.split_whitespace().next()) {
                add(inside(module, package)
                    .map_or_else(|| Target::Package(module.to_owned()), Target::Inside));
            }
        }
    }
    imports
}

/// The path behind the service's own package name.
fn inside(module: &str, package: &str) -> Option<Vec<String>> {
    let rest = module.strip_prefix(package)?;
    match rest.strip_prefix('.') {
        Some(rest) => Some(rest.split('.').map(str::to_owned).collect()),
        None => rest.is_empty().then(Vec::new),
    }
}

fn rust(path: &[String], text: &str) -> Vec<Import> {
    let mut lines: Vec<&str> = code(text, "//").map(|(_, line)| line).collect();
    // Tests may use whatever they need.
    if let Some(tests) =
        lines.windows(2).position(|two| two[0].trim() == "#[cfg(test)]" && two[1].contains("mod "))
    {
        lines.truncate(tests);
    }
    let text = lines.join("\n");
    let mut module: Vec<String> = path.to_vec();
    if module.last().is_some_and(|name| name == "mod" || name == "lib" || name == "main") {
        module.pop();
    }
    let mut imports = Vec::new();
    for (start, word) in ["crate::", "super::"].iter().flat_map(|word| text.match_indices(word)) {
        let before = &text[..start];
        // The middle of `super::super::` was seen at its beginning; `$crate` is a macro's.
        if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let (mut base, mut rest) =
            if word == "crate::" { (vec![], &text[start + 7..]) } else { (module.clone(), &text[start..]) };
        while let Some(after) = rest.strip_prefix("super::") {
            base.pop();
            rest = after;
        }
        let line = before.matches('\n').count() + 1;
        for name in leading(rest) {
            let mut target = base.clone();
            target.extend(name);
            imports.push(Import { line, target: Target::Inside(target) });
        }
    }
    imports
}

/// The paths that a use tree begins with: `a::b::C` or each of `{a::B, c}`.
fn leading(tree: &str) -> Vec<Vec<String>> {
    let Some(group) = tree.strip_prefix('{') else {
        let end = tree.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(tree.len());
        let parts = tree[..end].split("::").filter(|part| !part.is_empty());
        return vec![parts.map(str::to_owned).collect()];
    };
    let mut depth = 0;
    let mut items = vec![String::new()];
    for c in group.chars() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            _ => {}
        }
        let part = depth == 0 && c != ',' && c != '}' && !c.is_whitespace();
        if part && let Some(item) = items.last_mut() {
            item.push(c);
        }
    }
    items.iter().filter(|item| !item.is_empty()).flat_map(|item| leading(item)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(language: Language, path: &[&str], text: &str) -> Vec<String> {
        let imports = language.imports(&owned(path), "app", text);
        imports
            .into_iter()
            .map(|import| match import.target {
                Target::Inside(parts) => parts.join("/"),
                Target::Outside(path) => format!("OUT {path}"),
                Target::Package(name) => format!("PKG {name}"),
            })
            .collect()
    }

    #[test]
    fn rust_paths_groups_and_supers_are_found() {
        let text = "use crate::edge::{access, problem::Problem};\nuse crate::{config, upstream::http1};\n\
                    use super::routes;\nfn f() { super::super::web::x(); crate::run() }\n// crate::comment\n\
                    #[cfg(test)]\nmod tests { use crate::everything; }";
        let found = inside(Language::Rust, &["planes", "contract", "read"], text);
        let expected = ["edge", "config", "upstream/http1", "run", "planes/contract/routes", "planes/web/x"];
        assert_eq!(found, expected);
        assert_eq!(
            inside(Language::Rust, &["planes", "web", "mod"], "use super::contract;"),
            ["planes/contract"]
        );
    }

    #[test]
    fn typescript_imports_are_found() {
        let text = "import { a } from \"../db/open.ts\";\nimport \"./b.ts\";\n} from '@hybrid/contracts';\n\
                    const c = await import(\"../../../other/x.ts\");\n// import \"./no.ts\"\nArray.from \"x\";";
        let found = inside(Language::Typescript, &["notes", "routes"], text);
        assert_eq!(found, ["db/open", "notes/b", "PKG @hybrid/contracts", "OUT ../../../other/x.ts"]);
    }

    #[test]
    fn python_imports_are_found() {
        let text = "from app.store import sqlite\nfrom app import config, errors\nimport app.models.embedder as e\n\
                    from . import edge\nfrom ..serving.work import Job\nimport numpy\n# import app.no\n\
                    from application import x";
        let found = inside(Language::Python, &["services", "text"], text);
        let expected = [
            "store",
            "config",
            "errors",
            "models/embedder",
            "services",
            "serving/work",
            "PKG numpy",
            "PKG application",
        ];
        assert_eq!(found, expected);
        assert_eq!(
            inside(Language::Python, &["main"], "from . import config\nfrom .. import x"),
            ["config", "OUT .."]
        );
    }
}
