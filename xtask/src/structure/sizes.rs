//! Sizes of functions, files and folders.

use std::collections::BTreeMap;

use super::syntax::Source;
use super::tree::{Tree, Violation};

/// Lines of a function, from `fn` to its last brace: what fits on a screen.
const FUNCTION: usize = 60;

/// Lines of a file, with its tests.
const FILE: usize = 300;

/// The packages whose files have that limit.
const SHORT: [&str; 3] = ["lb-common/", "lb-ebpf/", "lb-userspace/"];

/// Rust files of a folder.
const FOLDER: usize = 12;

/// Files that are longer, each with the reason why it is one subject still.
const LONG_FILES: &[(&str, &str)] = &[];

/// The heading in ARCHITECTURE.md below which folders with more files are named, with the reason.
const HEADING: &str = "## Large folders";

/// What is larger than it may be.
pub fn check(tree: &Tree, sources: &BTreeMap<String, Source>) -> Vec<Violation> {
    let mut violations = functions(sources);
    violations.extend(files(tree, LONG_FILES));
    violations.extend(folders(tree));
    violations
}

fn functions(sources: &BTreeMap<String, Source>) -> Vec<Violation> {
    let all = sources
        .iter()
        .flat_map(|(file, source)| source.functions.iter().map(move |function| (file, function)));
    let long = all.filter(|(_, function)| function.lines > FUNCTION);
    long.map(|(file, function)| {
        let (name, line, lines) = (&function.name, function.line, function.lines);
        Violation {
            subject: format!("function {file} {name}"),
            message: format!(
                "{file}:{line}: the function `{name}` has {lines} lines, more than {FUNCTION}. \
                 Move its steps into functions."
            ),
        }
    })
    .collect()
}

fn files(tree: &Tree, excepted: &[(&str, &str)]) -> Vec<Violation> {
    let is_short = |file: &str| SHORT.iter().any(|package| file.starts_with(package));
    let mut violations = Vec::new();
    for (file, text) in tree.rust().filter(|(file, _)| is_short(file)) {
        let lines = text.lines().count();
        let is_excepted = excepted.iter().any(|(other, _)| *other == file);
        if lines > FILE && !is_excepted {
            violations.push(Violation {
                subject: format!("file {file}"),
                message: format!(
                    "{file} has {lines} lines, more than {FILE}. Split it by \
                     subject, or list it with a reason in LONG_FILES of xtask/src/structure/sizes.rs."
                ),
            });
        }
    }
    let lines = |file: &str| tree.text(file).map_or(0, |text| text.lines().count());
    violations.extend(excepted.iter().filter(|(file, _)| lines(file) <= FILE).map(|(file, _)| {
        Violation {
            subject: format!("exception {file}"),
            message: format!(
                "LONG_FILES of xtask/src/structure/sizes.rs lists {file}, which is no longer too \
                 long: take it out."
            ),
        }
    }));
    violations
}

fn folders(tree: &Tree) -> Vec<Violation> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for (file, _) in tree.rust() {
        *counts.entry(file.rsplit_once('/').map_or("", |(folder, _)| folder)).or_default() += 1;
    }
    let text = tree.text("ARCHITECTURE.md").unwrap_or_default();
    let section = text.split_once(HEADING).map_or("", |(_, rest)| rest);
    let section = section.split("\n## ").next().unwrap_or_default();
    let reason = |folder: &str| {
        let named = [format!("`{folder}`"), format!("`{folder}/`")];
        section.lines().find(|line| named.iter().any(|name| line.contains(name)))
    };
    let large =
        counts.into_iter().filter(|(folder, count)| *count > FOLDER && reason(folder).is_none());
    large
        .map(|(folder, count)| Violation {
            subject: format!("folder {folder}"),
            message: format!(
                "{folder} holds {count} files, more than {FOLDER}. Group them in folders, or \
                 name this one with the reason in ARCHITECTURE.md under \"{HEADING}\"."
            ),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::violations;
    use super::*;

    #[track_caller]
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        violations(files, check)
    }

    #[test]
    fn a_function_longer_than_a_screen_is_refused_in_tests_too() {
        let body = "g();\n".repeat(FUNCTION - 1);
        let fits = format!("fn f() {{\n{}}}", &body[5..]);
        assert_eq!(found(&[("tests/a.rs", &fits)]), Vec::<String>::new());
        let long = format!("#[cfg(test)]\nmod tests {{\n#[test]\nfn f() {{\n{body}}}\n}}");
        assert_eq!(
            found(&[("tests/a.rs", &long)]),
            ["tests/a.rs:4: the function `f` has 61 lines, more than 60. \
              Move its steps into functions."]
        );
    }

    #[test]
    fn a_long_file_of_the_product_is_refused() {
        let text = "\n".repeat(FILE + 1);
        assert_eq!(found(&[("tests/src/a.rs", &text)]), Vec::<String>::new());
        let messages = found(&[("lb-ebpf/src/a.rs", &text)]);
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].starts_with("lb-ebpf/src/a.rs has 301 lines, more than 300."));
    }

    #[test]
    fn a_file_that_is_listed_with_a_reason_may_be_long_and_is_listed_only_while_it_is() {
        let read = |text: &str| Tree {
            files: BTreeMap::from([("lb-ebpf/src/a.rs".to_owned(), text.to_owned())]),
        };
        let excepted = [("lb-ebpf/src/a.rs", "one table of one subject")];
        assert!(files(&read(&"\n".repeat(FILE + 1)), &excepted).is_empty());
        let messages = files(&read("\n"), &excepted);
        assert!(messages[0].message.contains("no longer too long"), "{messages:?}");
    }

    #[test]
    fn a_folder_of_many_files_is_refused_unless_the_architecture_says_why() {
        let names: Vec<String> = (0..=FOLDER).map(|number| format!("a/src/{number}.rs")).collect();
        let mut files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        let messages = found(&files);
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].starts_with("a/src holds 13 files, more than 12."));
        files.push((
            "ARCHITECTURE.md",
            "# A\n## Large folders\n\n- `a/src`: a file a record\n\n## B\n",
        ));
        assert_eq!(found(&files), Vec::<String>::new());
    }
}
