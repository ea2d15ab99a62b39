//! No circles: the files of a crate import each other from the top down, so that each can be read and
//! tested with what is below it alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::crates::{Crate, Import};
use super::tree::Violation;

/// What to do about a circle.
const INSTEAD: &str = "Move what both ends need into a file below them, hand it over as an argument, or \
    make one file of two.";

/// The circles of every crate.
pub fn check(crates: &[Crate]) -> Vec<Violation> {
    let mut circles = BTreeMap::new();
    for krate in crates {
        let imports = krate.imports();
        for files in components(&imports) {
            circles.entry(files.clone()).or_insert_with(|| violation(&files, &imports));
        }
    }
    circles.into_values().collect()
}

fn violation(files: &[String], imports: &[Import]) -> Violation {
    let circle = shortest(files, imports);
    let around = circle.iter().map(|import| {
        let Import { from, line, to, name } = import;
        format!("\n    {from}:{line} imports {to} (`{name}`)")
    });
    let named: BTreeSet<&String> = circle.iter().map(|import| &import.from).collect();
    let others: Vec<&str> =
        files.iter().filter(|file| !named.contains(file)).map(String::as_str).collect();
    let others = if others.is_empty() {
        String::new()
    } else {
        format!("\n    The circle also goes through {}", others.join(", "))
    };
    let (count, around) = (files.len(), around.collect::<String>());
    Violation {
        subject: format!("circle {}", files.join(" ")),
        message: format!(
            "{count} files import each other in a circle:{around}{others}\n    {INSTEAD}"
        ),
    }
}

/// The sets of two and more files each of which reaches all others of its set.
fn components(imports: &[Import]) -> Vec<Vec<String>> {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for import in imports {
        next.entry(&import.from).or_default().push(&import.to);
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        next.keys().map(|file| (*file, reachable(file, &next))).collect();
    let mut found = BTreeSet::new();
    for (file, ahead) in &reached {
        let reaches_back =
            |other: &&&str| reached.get(**other).is_some_and(|ahead| ahead.contains(file));
        let component: Vec<String> =
            ahead.iter().filter(reaches_back).map(|file| (*file).to_owned()).collect();
        if component.len() > 1 {
            found.insert(component);
        }
    }
    found.into_iter().collect()
}

/// The files that `start` imports, directly or through others; itself among them if it is in a circle.
fn reachable<'a>(start: &str, next: &BTreeMap<&str, Vec<&'a str>>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut left: Vec<&str> = next[start].clone();
    while let Some(file) = left.pop() {
        if seen.insert(file) {
            left.extend(next.get(file).into_iter().flatten());
        }
    }
    seen
}

/// A shortest circle among `files`, import by import.
fn shortest<'a>(files: &[String], imports: &'a [Import]) -> Vec<&'a Import> {
    let circles = files.iter().filter_map(|start| circle_from(start, imports));
    circles.min_by_key(Vec::len).unwrap_or_default()
}

/// The shortest circle that begins at `start`.
fn circle_from<'a>(start: &str, imports: &'a [Import]) -> Option<Vec<&'a Import>> {
    let mut by: BTreeMap<&str, &Import> = BTreeMap::new();
    let mut left = VecDeque::from([start]);
    while let Some(file) = left.pop_front() {
        for import in imports.iter().filter(|import| import.from == file) {
            if !by.contains_key(import.to.as_str()) {
                by.insert(&import.to, import);
                left.push_back(&import.to);
            }
        }
    }
    let mut circle = vec![*by.get(start)?];
    while circle[circle.len() - 1].from != start {
        circle.push(by[circle[circle.len() - 1].from.as_str()]);
    }
    circle.reverse();
    Some(circle)
}

#[cfg(test)]
mod tests {
    use super::super::tests::violations;
    use super::*;

    #[track_caller]
    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        violations(files, |tree, sources| check(&Crate::all(tree, sources)))
    }

    #[test]
    fn two_files_that_import_each_other_are_refused_with_file_and_line() {
        let found = circles(&[
            ("a/src/lib.rs", "mod walk;\nmod icmp;"),
            ("a/src/walk.rs", "use crate::icmp;\npub struct Walk;\nfn f() { icmp::reply() }"),
            ("a/src/icmp.rs", "\npub fn reply(walk: &super::walk::Walk) {}"),
        ]);
        assert_eq!(
            found,
            ["2 files import each other in a circle:\n    \
              a/src/icmp.rs:2 imports a/src/walk.rs (`super::walk::Walk`)\n    \
              a/src/walk.rs:1 imports a/src/icmp.rs (`crate::icmp`)\n    \
              Move what both ends need into a file below them, hand it over as an argument, or \
              make one file of two."]
        );
    }

    #[test]
    fn a_longer_way_round_is_a_circle_and_so_is_one_by_way_of_a_re_export() {
        let found = circles(&[
            ("a/src/lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a/src/a.rs", "use crate::b::B; pub struct A;"),
            ("a/src/b.rs", "use crate::c::{C, A}; pub struct B;"),
            ("a/src/c.rs", "pub use crate::a::A; pub struct C;"),
            ("a/src/d.rs", "use crate::a::A;"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("3 files")
                && found[0].contains("The circle also goes through a/src/c.rs")
        );
    }

    #[test]
    fn what_a_folder_hands_on_is_no_circle_and_what_it_uses_itself_is_one() {
        let child = ("a/src/plan/pools.rs", "use super::Plan; pub fn pools(plan: &Plan) {}");
        let handed_on = "pub mod pools; pub use pools::pools; pub struct Plan;";
        let files = |plan| [("a/src/lib.rs", "mod plan;"), ("a/src/plan/mod.rs", plan), child];
        assert_eq!(circles(&files(handed_on)), Vec::<String>::new());
        let used = format!("{handed_on} fn plan() {{ pools(&Plan) }}");
        assert_eq!(circles(&files(&used)).len(), 1);
    }

    #[test]
    fn a_name_of_the_parent_leads_to_the_file_that_defines_it() {
        let files = [
            ("a/src/lib.rs", "mod maps;"),
            ("a/src/maps/mod.rs", "mod diff; mod contents; pub use contents::*; use diff::diff;"),
            ("a/src/maps/diff.rs", "use super::Contents; pub fn diff(contents: &Contents) {}"),
            ("a/src/maps/contents.rs", "pub struct Contents;"),
        ];
        assert_eq!(circles(&files), Vec::<String>::new());
    }

    #[test]
    fn tests_may_import_what_they_test() {
        let files = [
            ("a/src/lib.rs", "mod a;"),
            ("a/src/a.rs", "#[cfg(test)]\nmod tests;\npub struct A;"),
            ("a/src/a/tests.rs", "use super::A; use crate::a;"),
        ];
        assert_eq!(circles(&files), Vec::<String>::new());
    }
}
