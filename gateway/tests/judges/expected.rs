//! Findings that are known, each with its reason, in `tests/judges/NAME/expected.txt`. Such a list may only shrink: what
//! it lacks is a failure, and so is what it has too much. A line that begins with `~` is a finding that chance decides.

use super::tools;
use std::collections::BTreeSet;

/// Compares what a judge found with what is known.
pub(crate) fn compare(name: &str, found: impl IntoIterator<Item = String>) {
    let file = tools::folder(name).join("expected.txt");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (races, known): (BTreeSet<_>, BTreeSet<_>) = lines.partition(|line| line.starts_with("~ "));
    let found: BTreeSet<_> = found.into_iter().collect();
    let is_race = |name: &String| races.contains(&*format!("~ {name}"));
    let new: Vec<_> = found.iter().filter(|name| !known.contains(name.as_str()) && !is_race(name)).collect();
    let gone: Vec<_> = known.iter().filter(|name| !found.contains(**name)).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "new findings: {new:#?}\nno longer found, to be taken out of {}: {gone:#?}",
        file.display()
    );
}
