//! The comments of the .proto files, by the place that they describe. Descriptor sets without source info have none.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, FileDescriptor};

/// Comments by file name and path inside the file's descriptor.
#[derive(Default)]
pub(super) struct Comments(HashMap<String, HashMap<Vec<i32>, String>>);

impl Comments {
    pub(super) fn of(pool: &DescriptorPool) -> Self {
        Self(pool.files().map(|file| (file.name().to_owned(), of_file(&file))).collect())
    }

    /// What is said at a place, with the lines of a paragraph joined; empty if nothing is.
    pub(super) fn at(&self, file: &FileDescriptor, path: &[i32]) -> &str {
        self.0.get(file.name()).and_then(|comments| comments.get(path)).map_or("", String::as_str)
    }
}

fn of_file(file: &FileDescriptor) -> HashMap<Vec<i32>, String> {
    let Some(info) = &file.file_descriptor_proto().source_code_info else { return HashMap::new() };
    let comment = |location: &prost_reflect::prost_types::source_code_info::Location| {
        // What stands behind a field on its line counts where nothing stands above it.
        let text = location.leading_comments.as_deref().or(location.trailing_comments.as_deref())?;
        let text = unwrap(text);
        (!text.is_empty()).then(|| (location.path.clone(), text))
    };
    info.location.iter().filter_map(comment).collect()
}

/// Joins the lines of each paragraph; lists and indented lines stay lines. Directives for linters are left out.
fn unwrap(comment: &str) -> String {
    let mut text = String::new();
    let mut joins = false;
    for line in comment.lines() {
        let line = line.strip_prefix(' ').unwrap_or(line).trim_end();
        if line.trim_start().starts_with("buf:lint:") {
            continue;
        }
        let own_line = line.is_empty() || line.starts_with(['-', '*', ' ', '\t', '#', '|']);
        if !text.is_empty() {
            text.push(if joins && !own_line { ' ' } else { '\n' });
        }
        text.push_str(line);
        joins = !line.is_empty();
    }
    text.trim_matches('\n').to_owned()
}

/// A comment as a title and the rest: the first sentence without its full stop, and what follows it.
pub(super) fn split(comment: &str) -> (&str, &str) {
    let paragraph = comment.find("\n").unwrap_or(comment.len());
    let end = comment[..paragraph].find(". ").unwrap_or(paragraph);
    let (first, rest) = comment.split_at(end);
    (first.trim_end_matches('.'), rest.trim_start_matches('.').trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_joined_and_lists_are_kept() {
        let comment = " One sentence\n that goes on.\n buf:lint:ignore X\n\n Another:\n - a\n - b\n";
        assert_eq!(unwrap(comment), "One sentence that goes on.\n\nAnother:\n- a\n- b");
    }

    #[test]
    fn the_first_sentence_is_the_title() {
        assert_eq!(split("Finds v1.2 things. Fast."), ("Finds v1.2 things", "Fast."));
        assert_eq!(split("Finds.\n\nMore."), ("Finds", "More."));
        assert_eq!(split("No stop"), ("No stop", ""));
        assert_eq!(split(""), ("", ""));
    }
}
