//! Reads the samples that `/` shows from `.http` files: requests separated by `###`, each with its comments.

use std::{fs, path::Path};

/// A `.http` file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Its name without the extension.
    pub(super) name: String,
    pub(super) samples: Vec<Sample>,
}

/// A request in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) title: String,
    pub(super) request: String,
}

/// All files of a folder by name; a folder that cannot be read has none.
pub(super) fn read(folder: &Path) -> Vec<File> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "http"));
    paths.sort();
    let file = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).ok()?;
        let name = path.file_stem()?.to_string_lossy().into_owned();
        Some(File { name, samples: parse(&text) })
    };
    paths.iter().filter_map(file).collect()
}

/// The name comes from `# @name`, or else from the text behind `###`; our expectations are left out.
fn parse(text: &str) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (index, block) in format!("\n{text}").split("\n###").enumerate() {
        let (heading, body) =
            if index == 0 { ("", block) } else { block.split_once('\n').unwrap_or((block, "")) };
        let named =
            body.lines().find_map(|line| line.trim_start_matches(['#', '/', ' ']).strip_prefix("@name"));
        let comment = |line: &&str| line.starts_with('#') || line.starts_with("//") || line.starts_with('@');
        let request: Vec<_> = body.lines().filter(|line| !comment(line)).collect();
        let request = request.join("\n").trim().to_owned();
        if request.is_empty() {
            continue;
        }
        let first = request.lines().next().unwrap_or_default();
        let title = [heading.trim(), named.map_or("", str::trim), first].into_iter().find(|t| !t.is_empty());
        samples.push(Sample { title: title.unwrap_or_default().replace('_', " "), request });
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_split_and_named() {
        let text = "@base = http://localhost:8080\n\n### Create a note\n# @name create_note\n# @expect status 201\n\
            POST {{base}}/api/notes\ncontent-type: application/json\n\n{\"title\": \"x\"}\n\n###\n# @name list_notes\nGET {{base}}/api/notes\n";
        let samples = parse(text);
        assert_eq!(samples.len(), 2);
        assert_eq!(samples[0].title, "Create a note");
        assert!(
            samples[0].request.starts_with("POST {{base}}/api/notes\n")
                && samples[0].request.ends_with("{\"title\": \"x\"}")
        );
        assert_eq!(
            (samples[1].title.as_str(), samples[1].request.as_str()),
            ("list notes", "GET {{base}}/api/notes")
        );
    }
}
