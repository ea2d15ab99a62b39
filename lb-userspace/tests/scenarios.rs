//! Every file of `scenarios/` is a promise: objects in; warnings, contents and packets out. A folder
//! is a section of the rules that `docs/rules.md` lists.
//!
//! A file begins with the sentence it proves. Its sections, in any order and number:
//!
//! - `-- cluster.yaml --`: the objects there are from now on, read by the real source. The agent
//!   then plans and writes to maps of which one write in ten fails, until nothing is left to write;
//!   an agent that starts on what the maps then hold must have nothing to write either.
//! - `-- settings --`: sizes of tables and such, before the first objects; see [`stage`].
//! - `-- sweep --`: the connection tables are swept.
//! - `-- wait 10 seconds --`: time passes.
//! - `-- addresses of eth0 --`: the addresses that the network device has from now on, a line each.
//! - `-- warnings --`, `-- contents --`, `-- packets --`: what comes of it. With `UPDATE_EXPECT=1`
//!   they are rewritten instead of compared.
//! - `-- health checks --`: what load balancers may ask this node, and the number of ready endpoints
//!   here that it is answered by; rewritten as the above.
//!
//! A section's name may go on after a blank, as in `-- contents (after the edit) --`. Lines of
//! `packets` are read up to ` = `; see [`packets`].

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod packets;
mod rules;
mod stage;
mod walk;

use std::fmt::Write;
use std::path::Path;

use stage::Stage;

#[test]
fn every_scenario_is_as_its_file_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let files = rules::files(&directory);
    let seed = seed();
    println!("failing writes follow from WEIR_SEED={seed}");
    let wrong: Vec<String> = files.iter().filter_map(|file| check(file, seed).err()).collect();
    assert!(wrong.is_empty(), "with WEIR_SEED={seed}:\n{}", wrong.join("\n"));
}

/// Another one every time, unless one is asked for.
fn seed() -> u64 {
    match std::env::var("WEIR_SEED") {
        Ok(seed) => seed.parse().expect("WEIR_SEED is a number"),
        Err(_) => u64::from(std::process::id()),
    }
}

fn check(file: &Path, seed: u64) -> Result<(), String> {
    let before = std::fs::read_to_string(file).unwrap();
    let after = played(&before, seed);
    if before == after {
        Ok(())
    } else if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(file, after).unwrap();
        Ok(())
    } else {
        let name = file.display();
        Err(format!(
            "{name} (UPDATE_EXPECT=1 takes over what is new):\n{}",
            changes(&before, &after)
        ))
    }
}

/// The scenario as it turns out.
fn played(scenario: &str, seed: u64) -> String {
    let mut stage = Stage::new(seed);
    let mut played = String::new();
    for Section { head, body } in sections(scenario) {
        let name = head.trim_matches(['-', ' ', '\n']);
        let (what, rest) = name.split_once(' ').unwrap_or((name, ""));
        let body = match what {
            "settings" => stage.set(body),
            "cluster.yaml" => stage.objects(body),
            "sweep" => stage.sweep(),
            "wait" => stage.wait(rest),
            "addresses" => stage.addresses(body),
            "health" => Some(stage.health_checks()),
            "warnings" => Some(stage.warnings()),
            "contents" => Some(stage.contents()),
            "packets" => Some(packets::played(&mut stage, body)),
            _ if head.is_empty() => None,
            _ => panic!("a section called {name:?}"),
        }
        .map_or_else(|| body.to_owned(), |now| with_ending_of(body, now));
        write!(played, "{head}{body}").unwrap();
    }
    played
}

/// A blank line at a section's end is the writer's.
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
        let here = *offset;
        *offset += line.len();
        Some((here, line))
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
