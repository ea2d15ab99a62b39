//! Every file of `scenarios/` is a test: objects in; warnings, contents and packets out. A folder is a
//! section of the rules in `docs/rules.md`.
//!
//! A file begins with the sentence it proves. Its sections, in any order and number:
//!
//! - `-- cluster.yaml --`: the objects from now on, read by the real source. The agent plans and writes to
//!   maps of which one write in ten fails, until nothing is left to write; an agent that starts on
//!   these maps must have nothing to write either.
//! - `-- settings --`: sizes of maps and other settings, before the first objects; see [`fixture`].
//! - `-- conntrack gc --`: garbage collection of the conntrack tables.
//! - `-- wait 10 seconds --`: time passes.
//! - `-- addresses of eth0 --`: the addresses of the network device from now on, a line each.
//! - `-- warnings --`, `-- contents --`, `-- packets --`: the results. With `UPDATE_EXPECT=1`
//!   they are rewritten instead of compared.
//! - `-- health checks --`: the health checks of this node, with the number of ready local endpoints;
//!   rewritten in the same way.
//!
//! A section's name may be followed by more words, as in `-- contents (after the edit) --`. Lines of
//! `packets` are read up to ` = `; see [`packets`].

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod fixture;
mod packets;
mod rules;
mod settings;
mod walk;

use std::fmt::Write;
use std::path::Path;

use fixture::Fixture;

#[test]
fn every_scenario_has_the_results_in_its_file() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let files = rules::files(&directory);
    let seed = seed();
    println!("failing writes follow from WEIR_SEED={seed}");
    let wrong: Vec<String> = files.iter().filter_map(|file| check(file, seed).err()).collect();
    assert!(wrong.is_empty(), "with WEIR_SEED={seed}:\n{}", wrong.join("\n"));
}

/// A new seed for each run, unless `WEIR_SEED` is set.
fn seed() -> u64 {
    match std::env::var("WEIR_SEED") {
        Ok(seed) => seed.parse().expect("WEIR_SEED is a number"),
        Err(_) => u64::from(std::process::id()),
    }
}

fn check(file: &Path, seed: u64) -> Result<(), String> {
    let before = std::fs::read_to_string(file).unwrap();
    let after = run(&before, seed);
    if before == after {
        Ok(())
    } else if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(file, after).unwrap();
        Ok(())
    } else {
        let name = file.display();
        Err(format!("{name} (UPDATE_EXPECT=1 rewrites it):\n{}", changes(&before, &after)))
    }
}

/// The scenario with its results.
fn run(scenario: &str, seed: u64) -> String {
    let mut fixture = Fixture::new(seed);
    let mut result = String::new();
    for Section { head, body } in sections(scenario) {
        let name = head.trim_matches(['-', ' ', '\n']);
        let (what, rest) = name.split_once(' ').unwrap_or((name, ""));
        let body = match what {
            "settings" => fixture.set(body),
            "cluster.yaml" => fixture.objects(body),
            "conntrack" => fixture.collect_garbage(),
            "wait" => fixture.wait(rest),
            "addresses" => fixture.addresses(body),
            "health" => Some(fixture.health_checks()),
            "warnings" => Some(fixture.warnings()),
            "contents" => Some(fixture.contents()),
            "packets" => Some(packets::run(&mut fixture, body)),
            _ if head.is_empty() => None,
            _ => panic!("a section called {name:?}"),
        }
        .map_or_else(|| body.to_owned(), |now| with_ending_of(body, now));
        write!(result, "{head}{body}").unwrap();
    }
    result
}

/// Keeps the blank line at the end of a section.
fn with_ending_of(body: &str, mut now: String) -> String {
    if body.ends_with("\n\n") {
        now.push('\n');
    }
    now
}

struct Section<'a> {
    /// The line that opens it; nothing before the first.
    head: &'a str,
    body: &'a str,
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections = vec![Section { head: "", body: text }];
    for (offset, line) in lines(text) {
        if line.starts_with("-- ") && line.trim_end().ends_with(" --") {
            let last = sections.last_mut().unwrap();
            let length = text.len() - last.body.len();
            last.body = &text[length..offset];
            let body = &text[offset + line.len()..];
            sections.push(Section { head: line, body });
        }
    }
    sections
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |offset, line| {
        let start = *offset;
        *offset += line.len();
        Some((start, line))
    })
}

/// The lines that differ, those of `before` with a minus.
fn changes(before: &str, after: &str) -> String {
    let mut changes = String::new();
    let (mut old, mut new) = (before.lines().peekable(), after.lines().peekable());
    while old.peek().is_some() || new.peek().is_some() {
        let (old, new) = (old.next(), new.next());
        if old != new {
            let lines = old.map(|line| ("-", line)).into_iter().chain(new.map(|line| ("+", line)));
            lines.for_each(|(sign, line)| writeln!(changes, "  {sign} {line}").unwrap());
        }
    }
    changes
}
