//! The layer rules of `layers.toml`: which module of a service may import which. A module without a line is an
//! error, so that the rules stay whole.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Verdict;
use super::imports::{Import, Language, Target};
use crate::stack::Stack;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    service: Vec<Service>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    name: String,
    root: String,
    language: Language,
    /// What the service calls itself in imports: Python's package, or the prefix of the project's npm packages.
    #[serde(default)]
    package: String,
    /// Packages of the project that it may import.
    #[serde(default)]
    packages: Vec<String>,
    /// Module → the modules that it may import; `*` for all.
    layers: BTreeMap<String, Vec<String>>,
}

pub(super) fn run(stack: &Stack) -> Result<Verdict> {
    let root = stack.root();
    let file = root.join("layers.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let rules: Rules = toml::from_str(&text).context("layers.toml is not valid")?;
    let mut findings = Vec::new();
    for service in &rules.service {
        service.check_rules(&mut findings);
        let dir = root.join(&service.root);
        service.check_folder(&dir, &mut Vec::new(), &mut findings)?;
    }
    Ok(Verdict::of(findings))
}

impl Service {
    /// A rule about a module that no rule describes is a slip.
    fn check_rules(&self, findings: &mut Vec<String>) {
        for (module, allowed) in &self.layers {
            for name in allowed.iter().filter(|name| *name != "*" && !self.layers.contains_key(*name)) {
                findings.push(format!(
                    "layers.toml: {}: {module} may import {name}, which has no line",
                    self.name
                ));
            }
        }
    }

    fn check_folder(&self, dir: &Path, path: &mut Vec<String>, findings: &mut Vec<String>) -> Result<()> {
        let mut entries: Vec<_> = std::fs::read_dir(dir)
            .with_context(|| format!("layers.toml: {}: cannot read {}", self.name, dir.display()))?
            .collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let file = entry.path();
            let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            path.push(stem);
            if file.is_dir() {
                self.check_folder(&file, path, findings)?;
            } else if self.language.owns(&file) {
                let text = std::fs::read_to_string(&file)?;
                let shown = format!("{}/{}", self.root, path.join("/"));
                findings.extend(self.check_file(path, &shown, &text));
            }
            path.pop();
        }
        Ok(())
    }

    fn check_file(&self, path: &[String], shown: &str, text: &str) -> Vec<String> {
        let Some(from) = self.module(path) else {
            return vec![format!("{shown}: layers.toml has no line for this module of {}", self.name)];
        };
        let imports = self.language.imports(path, &self.package, text);
        imports.iter().filter_map(|import| self.check_import(from, shown, import)).collect()
    }

    fn check_import(&self, from: &str, shown: &str, import: &Import) -> Option<String> {
        let at = format!("{shown}:{}", import.line);
        match &import.target {
            Target::Outside(path) => {
                Some(format!("{at}: imports {path}, outside of the service {}", self.name))
            }
            Target::Package(name) => {
                let scope = self.package.split_once('/').map(|(scope, _)| format!("{scope}/"))?;
                let allowed = self.packages.iter().any(|p| name == p || name.starts_with(&format!("{p}/")));
                (name.starts_with(&scope) && !allowed)
                    .then(|| format!("{at}: {} may not import {name}", self.name))
            }
            Target::Inside(target) => {
                // What no rule names is an item of the root itself.
                let to = self.module(target).unwrap_or("lib");
                let allowed = &self.layers[from];
                let fine = to == from || allowed.iter().any(|name| name == to || name == "*");
                (!fine).then(|| format!("{at}: {from} may not import {to} ({})", target.join("::")))
            }
        }
    }

    /// The rule that a path falls under: the longest module that it begins with.
    fn module(&self, path: &[String]) -> Option<&str> {
        let begins = |module: &&String| {
            let parts: Vec<_> = module.split('/').collect();
            path.len() >= parts.len() && parts.iter().zip(path).all(|(a, b)| a == b)
        };
        self.layers.keys().filter(begins).max_by_key(|module| module.len()).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        [[service]]
        name = "web"
        root = "src"
        language = "rust"
        [service.layers]
        lib = ["*"]
        "planes/web" = ["edge"]
        "planes/contract" = ["edge"]
        edge = []
    "#;

    /// The findings of a service whose files are planted.
    fn check(rules: &str, files: &[(&str, &str)]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = dir.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let rules: Rules = toml::from_str(rules).unwrap();
        let mut findings = Vec::new();
        rules.service[0].check_rules(&mut findings);
        rules.service[0].check_folder(&dir.path().join("src"), &mut Vec::new(), &mut findings).unwrap();
        findings
    }

    #[test]
    fn allowed_imports_pass() {
        let files = [
            ("src/lib.rs", "use crate::planes::web;"),
            ("src/planes/web/mod.rs", "use crate::edge::problem; use super::web::x;"),
            ("src/edge/mod.rs", "use super::edge::a;"),
        ];
        assert_eq!(check(RULES, &files), Vec::<String>::new());
    }

    #[test]
    fn a_planted_violation_is_caught() {
        let findings = check(RULES, &[("src/planes/web/proxy.rs", "\nuse crate::planes::contract::read;")]);
        let expected =
            "src/planes/web/proxy:2: planes/web may not import planes/contract (planes::contract::read)";
        assert_eq!(findings, [expected]);
        let findings = check(RULES, &[("src/edge/a.rs", "fn f() { super::super::planes::web::x() }")]);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(check(RULES, &[("src/edge/a.rs", "use crate::run;")]).len(), 1);
    }

    #[test]
    fn a_module_without_a_line_and_a_rule_without_a_module_are_caught() {
        assert!(check(RULES, &[("src/new.rs", "")])[0].contains("no line for this module"));
        let rules = RULES.replace("edge = []", "edge = [\"gone\"]");
        assert!(check(&rules, &[("src/lib.rs", "")])[0].contains("gone"));
    }

    #[test]
    fn services_do_not_import_each_other() {
        let rules = r#"
            [[service]]
            name = "realtime"
            root = "src"
            language = "typescript"
            package = "@hybrid/realtime"
            packages = ["@hybrid/contracts"]
            [service.layers]
            main = []
        "#;
        let text = "import a from \"@hybrid/contracts/grpc\";\nimport b from \"@hybrid/console\";\n\
                    import c from \"../../console/src/x.ts\";\nimport d from \"fastify\";";
        let findings = check(rules, &[("src/main.ts", text)]);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].contains("@hybrid/console") && findings[1].contains("outside"));
    }
}
