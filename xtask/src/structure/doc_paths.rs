//! Every path in the documentation exists.

use super::tree::{Tree, Violation};

/// The pages that are looked at: these, and those of the folder `docs/`.
const PAGES: [&str; 3] = ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"];

/// Where the scenarios are that pages name by their folder and file.
const SCENARIOS: &str = "lb-userspace/tests/scenarios";

/// The paths that do not exist.
pub fn check(tree: &Tree) -> Vec<Violation> {
    let is_page =
        |file: &&str| PAGES.contains(file) || (file.starts_with("docs/") && file.ends_with(".md"));
    tree.paths().filter(is_page).flat_map(|page| of_page(page, tree)).collect()
}

fn of_page(page: &str, tree: &Tree) -> Vec<Violation> {
    let text = tree.text(page).unwrap_or_default();
    let mut violations = Vec::new();
    for (number, line) in without_blocks(text) {
        let named = spans(line).into_iter().flat_map(|span| path_of(span, tree));
        let linked = targets(line).into_iter().filter_map(|target| link(page, target));
        for path in named.chain(linked) {
            if !exists(&path, tree) {
                let path = path.trim_start_matches("**/");
                violations.push(Violation {
                    subject: format!("path {page} {path}"),
                    message: format!(
                        "{page}:{number} names {path}, which does not exist. Name what replaced it."
                    ),
                });
            }
        }
    }
    violations
}

/// The lines outside of fenced blocks, counted from 1.
fn without_blocks(text: &str) -> Vec<(usize, &str)> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push((number, line));
        }
    }
    lines
}

/// What stands in back quotes.
fn spans(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// The targets of links.
fn targets(line: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    let mut rest = line;
    while let Some((_, after)) = rest.split_once("](") {
        let Some((target, after)) = after.split_once(')') else { break };
        targets.push(target);
        rest = after;
    }
    targets
}

/// The paths that a span names, braces expanded; none if it is something else.
fn path_of(span: &str, tree: &Tree) -> Vec<String> {
    let span = span.split("::").next().unwrap_or_default();
    let span = span.split(": ").next().unwrap_or_default().trim_end_matches('/');
    let is_path = |c: char| c.is_ascii_alphanumeric() || "._-/{},*".contains(c);
    if span.is_empty() || !span.chars().all(is_path) {
        return Vec::new();
    }
    let first = span.split('/').next().unwrap_or_default();
    let is_from_the_top = span.contains('/') && !first.is_empty() && is_folder(first, tree);
    if is_from_the_top {
        expanded(span)
    } else if span.contains('/') && span.ends_with(".txt") {
        expanded(span).into_iter().map(|path| format!("{SCENARIOS}/{path}")).collect()
    } else if span.ends_with(".rs") && !span.starts_with('.') {
        // The end of a path, as `kernel/xdp.rs`.
        expanded(span).into_iter().map(|path| format!("**/{path}")).collect()
    } else {
        Vec::new()
    }
}

fn is_folder(path: &str, tree: &Tree) -> bool {
    let below = format!("{path}/");
    tree.paths().any(|file| file.starts_with(&below))
}

/// The path from the top of the repository that a link of `page` leads to; `None` if it leads out.
fn link(page: &str, target: &str) -> Option<String> {
    let target = target.split(['#', ' ']).next().unwrap_or_default();
    if target.is_empty() || target.contains(':') {
        return None;
    }
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// `a/{b,c}` as `a/b` and `a/c`.
fn expanded(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let Some((list, after)) = rest.split_once('}') else { return vec![path.to_owned()] };
    let each = list.split(',').map(|part| format!("{before}{}{after}", part.trim()));
    each.flat_map(|path| expanded(&path)).collect()
}

fn exists(path: &str, tree: &Tree) -> bool {
    if let Some(end) = path.strip_prefix("**/") {
        let below = format!("/{end}");
        return tree.paths().any(|file| file == end || file.ends_with(&below));
    }
    if path.contains('*') {
        let pattern: Vec<&str> = path.split('/').collect();
        return tree.paths().any(|file| {
            let parts: Vec<&str> = file.split('/').collect();
            // A pattern may name a folder.
            parts.len() >= pattern.len()
                && pattern.iter().zip(&parts).all(|(pattern, part)| matches(pattern, part))
        });
    }
    tree.file(path).is_some() || is_folder(path, tree)
}

/// Whether `name` fits a pattern in which a star stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter_map(|at| rest.get(at..)).any(|end| matches(after, end))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::violations;
    use super::*;

    #[track_caller]
    fn found(page: &str, text: &str) -> Vec<String> {
        let files = [
            (page, text),
            ("lb-ebpf/src/kernel/xdp.rs", ""),
            ("lb-ebpf/src/bench/main.rs", ""),
            ("lb-userspace/tests/scenarios/1.1-services/ports.txt", ""),
            ("docs/install.md", ""),
        ];
        violations(&files, |tree, _| check(tree))
    }

    #[test]
    fn a_path_that_is_not_there_is_refused_with_the_line_that_names_it() {
        assert_eq!(
            found("ARCHITECTURE.md", "# A\n\nSee `lb-ebpf/src/cases/list.rs` for it."),
            ["ARCHITECTURE.md:3 names lb-ebpf/src/cases/list.rs, which does not exist. \
              Name what replaced it."]
        );
        assert_eq!(found("docs/a.md", "[installing](installing.md)").len(), 1);
        assert_eq!(found("README.md", "`lb-ebpf/src/{bench,maps}/main.rs`").len(), 1);
        assert_eq!(found("README.md", "`kernel/tc.rs`, `1.1-services/none.txt`").len(), 2);
    }

    #[test]
    fn what_is_there_is_found_by_its_path_its_end_a_list_or_a_star() {
        let text = "`lb-ebpf/src/kernel/xdp.rs::network_xdp` and `lb-ebpf/src/kernel/xdp.rs: words`, \
            `lb-ebpf/src/{kernel,bench}`, `lb-ebpf/src/`, `lb-ebpf/*/bench/*.rs`, `kernel/xdp.rs`, \
            `1.1-services/ports.txt`, [installing](docs/install.md#helm), [out](https://a.example/b)";
        assert_eq!(found("README.md", text), Vec::<String>::new());
        assert_eq!(
            found("docs/a.md", "[a](install.md) [b](../docs/install.md)"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_is_no_path_of_the_repository_is_left_alone() {
        let text = "`/run/weir`, `2001:db8::/64`, `a/b`, `cargo xtask check`\n```\nlb-ebpf/src/none.rs\n```";
        assert_eq!(found("README.md", text), Vec::<String>::new());
    }
}
