//! The rules of the source tree that `cargo xtask check` enforces: allowed imports, no circles, no
//! retired words, documented paths, sizes. A violation is a sentence that says what to do; `not_yet`
//! lists the violations that are left.

mod circles;
mod crates;
mod doc_paths;
mod imports;
mod not_yet;
mod sizes;
mod syntax;
mod tree;
mod unsafe_code;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use crates::Crate;
use not_yet::NOT_YET;
use syntax::parse;
use tree::{Tree, Violation};

/// The violations in the tree under `root` that are not listed, and what is listed in vain.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let violations = all(&Tree::read(root)?)?;
    Ok(unlisted(violations, NOT_YET))
}

/// All violations, listed or not.
fn all(tree: &Tree) -> Result<Vec<Violation>> {
    let mut sources = BTreeMap::new();
    for (file, text) in tree.rust() {
        sources.insert(file.to_owned(), parse(file, text)?);
    }
    let crates = Crate::all(tree, &sources);
    let mut violations = imports::check(&crates, &sources);
    violations.extend(unsafe_code::check(&sources));
    violations.extend(circles::check(&crates));
    violations.extend(words::check(tree, &sources));
    violations.extend(doc_paths::check(tree));
    violations.extend(sizes::check(tree, &sources));
    Ok(violations)
}

/// The sentences of `violations` that are not `listed`, and one for each that is listed in vain.
fn unlisted(violations: Vec<Violation>, listed: &[&str]) -> Vec<String> {
    let found: BTreeSet<&str> =
        violations.iter().map(|violation| violation.subject.as_str()).collect();
    let in_vain = listed.iter().filter(|subject| !found.contains(*subject)).map(|subject| {
        format!("xtask/src/structure/not_yet.rs lists `{subject}`, which is mended: take it out.")
    });
    let in_vain: Vec<String> = in_vain.collect();
    let left = violations.into_iter();
    left.filter(|violation| !listed.contains(&violation.subject.as_str()))
        .map(|violation| violation.message)
        .chain(in_vain)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::syntax::Source;
    use super::*;

    /// The sentences that `check` has about a tree of these files.
    pub fn violations(
        files: &[(&str, &str)],
        check: impl Fn(&Tree, &BTreeMap<String, Source>) -> Vec<Violation>,
    ) -> Vec<String> {
        let own = |(file, text): &(&str, &str)| ((*file).to_owned(), (*text).to_owned());
        let tree = Tree { files: files.iter().map(own).collect() };
        let read = |(file, text): (&str, &str)| {
            (file.to_owned(), parse(file, text).expect("the test's own text is Rust"))
        };
        let sources = tree.rust().map(read).collect();
        check(&tree, &sources).into_iter().map(|violation| violation.message).collect()
    }

    #[test]
    fn the_source_tree_keeps_every_rule() {
        let found = check(crate::workspace::root()).unwrap();
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }

    #[test]
    fn what_is_listed_is_let_pass_until_it_is_mended() {
        let violation = |subject: &str| Violation {
            subject: subject.to_owned(),
            message: format!("{subject} is wrong."),
        };
        let found = vec![violation("file a.rs"), violation("file b.rs")];
        assert_eq!(
            unlisted(found, &["file a.rs", "file c.rs"]),
            [
                "file b.rs is wrong.",
                "xtask/src/structure/not_yet.rs lists `file c.rs`, which is mended: take it out."
            ]
        );
    }
}
