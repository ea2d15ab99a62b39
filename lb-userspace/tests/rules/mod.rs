//! `docs/rules.md` says for every rule of a Service which scenario proves it, and names no other;
//! `docs/differences.md` names some again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every scenario in the folders of `directory`, sorted.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The scenarios that a text names, as `` `folder/name.txt` ``.
fn named(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.ends_with(".txt")).map(str::to_owned).collect()
}

#[test]
fn every_scenario_proves_a_rule_of_the_table_and_every_one_it_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = root.join("tests/scenarios");
    let page = |name| std::fs::read_to_string(root.join("../docs").join(name)).unwrap();
    let named = named(&page("rules.md"));
    let differences = self::named(&page("differences.md"));
    let name = |path: PathBuf| path.strip_prefix(&directory).unwrap().display().to_string();
    let there: BTreeSet<String> = files(&directory).into_iter().map(name).collect();
    let all: BTreeSet<String> = named.union(&differences).cloned().collect();
    let missing: Vec<_> = all.difference(&there).collect();
    assert!(missing.is_empty(), "the pages name what is not there, write it: {missing:?}");
    let unnamed: Vec<_> = there.difference(&named).collect();
    assert!(unnamed.is_empty(), "docs/rules.md has no rule for these, add one: {unnamed:?}");
}

#[test]
fn every_scenario_begins_with_the_sentence_it_proves() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    for file in files(&directory) {
        let text = std::fs::read_to_string(&file).unwrap();
        let first = text.lines().next().unwrap_or_default();
        assert!(first.ends_with('.') && !first.starts_with('-'), "{}", file.display());
    }
}
