//! Retired words: this code's own inventions for what the field has words for. They are refused as the
//! names of files, types and outcomes; ARCHITECTURE.md's glossary says what each word means.

use std::collections::BTreeMap;

use super::syntax::Source;
use super::tree::{Tree, Violation};

/// Words that are refused wherever a file's or a type's name has them as a part, and what to use.
///
/// Not among them, as they have a right meaning too: connection (of TCP), connect (the call), flow,
/// hook, socket, error, request, world, rows, family, verdict, key, memory (bytes of it) and route.
const WORDS: &[(&str, &str)] = &[
    ("answer", "reply, response or reply_tuple"),
    ("answers", "replies, responses or icmp_rate_limit"),
    ("answered", "replied"),
    ("around", "node_view"),
    ("behind", "service_backends"),
    ("bring", "reconcile"),
    ("carry", "dispatch"),
    ("dial", "connect, or socket"),
    ("dialled", "connected"),
    ("dials", "connects"),
    ("door", "api_client"),
    ("draft", "scratch"),
    ("elsewhere", "remote"),
    ("ending", "disposition"),
    ("given", "context"),
    ("ground", "plan_input"),
    ("here", "local"),
    ("known", "store, or neighbour"),
    ("news", "watch_update, or log"),
    ("onward", "verdict"),
    ("patience", "backoff, or timeout"),
    ("place", "testbed, runtime_dir, hook_point or location"),
    ("problem", "error"),
    ("problems", "errors"),
    ("remark", "warning"),
    ("remarks", "warnings"),
    ("stage", "fixture"),
    ("story", "trace"),
    ("sweep", "gc"),
    ("tell", "notify, or reverse_nat"),
    ("teller", "icmp_sender"),
    ("telling", "aggregate"),
    ("told", "icmp, recorder or notified"),
    ("unusual", "slow_path, malformed or fragments"),
    ("walked", "walk_result"),
    ("way", "route"),
    ("whom", "target"),
];

/// Names that are refused as the whole name of a file below a folder, and what to use.
const FILES: &[(&str, &str, &str)] = &[
    ("", "access", "credentials"),
    ("", "balance", "walk"),
    ("", "batch", "bpf_map"),
    ("", "body", "event_loop"),
    ("", "bounds", "packet_access"),
    ("", "choose", "backend_select"),
    ("lb-common/", "connection", "conntrack"),
    ("lb-userspace/src/maps/", "connections", "conntrack_gc"),
    ("", "ends", "args"),
    ("", "hold", "fragment_queue"),
    ("", "memories", "affinity"),
    ("", "memory", "in_memory"),
    ("", "ports", "snat_ports or service_ports"),
    ("", "repeat", "bench/shared"),
    ("", "requirements", "preflight"),
    ("", "servers", "http"),
    ("", "stranded", "stale_udp"),
    ("", "text", "dump"),
    ("", "udp_sockets", "sock_destroy"),
    ("", "usual", "steady_state"),
];

/// Names that are refused as the whole name of a type below a folder, and what to use.
const TYPES: &[(&str, &str, &str)] = &[
    ("lb-", "Connection", "ConntrackEntry"),
    ("lb-ebpf/", "Form", "SockAddr"),
    ("lb-ebpf/", "Plain", "Native"),
    ("lb-ebpf/", "Refusal", "InsertError"),
    ("lb-ebpf/", "Room", "Scratch"),
];

/// Parts of outcomes' names that are refused, at their dashes, and what to use.
const OUTCOMES: &[(&str, &str)] = &[
    ("answered", "replied"),
    ("back", "hairpin"),
    ("crowded", "conntrack-full"),
    ("forwarded-error", "forwarded-icmp-error"),
    ("forwarded-socket", "socket-connected"),
    ("fragment-lost", "frag-not-found"),
    ("not-transport", "unsupported-protocol"),
    ("out", "snat"),
    ("replied-error", "replied-icmp-error"),
    ("replied-socket", "socket-peer-restored"),
    ("source-port", "snat-port"),
    ("table-full", "conntrack-full"),
    ("too-big", "frag-needed"),
    ("undefined-port", "no-such-port"),
    ("unrejected", "icmp-suppressed"),
    ("unwritable", "write-error"),
];

/// Where outcomes and the reasons of empty pools are named.
const NAMED: [&str; 2] = ["lb-common/src/outcome.rs", "lb-common/src/service/frontend.rs"];

/// The names that bear a retired word.
pub fn check(tree: &Tree, sources: &BTreeMap<String, Source>) -> Vec<Violation> {
    let mut violations: Vec<Violation> = sources.keys().filter_map(|file| of_file(file)).collect();
    for (file, source) in sources {
        let types = source.types.iter();
        violations.extend(types.filter_map(|(name, line)| of_type(file, name, *line)));
    }
    let named = NAMED.iter().filter_map(|file| Some((*file, tree.text(file)?)));
    violations.extend(named.flat_map(|(file, text)| of_outcomes(file, text)));
    violations
}

/// What is wrong with the name of a file, or of its folder if the file is the folder's `mod.rs`.
fn of_file(file: &str) -> Option<Violation> {
    let path = file.trim_end_matches(".rs");
    let path = path.trim_end_matches("/mod").trim_end_matches("/main");
    let stem = path.rsplit('/').next()?;
    let (word, instead) = whole(FILES, file, stem).or_else(|| retired(stem.split('_')))?;
    Some(violation(format!("word {file}"), format!("{file} is named `{word}`"), instead))
}

fn of_type(file: &str, name: &str, line: usize) -> Option<Violation> {
    let parts = parts_of_type(name);
    let part = || retired(parts.iter().map(String::as_str));
    let (word, instead) = whole(TYPES, file, name).or_else(part)?;
    Some(violation(
        format!("type {file} {name}"),
        format!("{file}:{line}: the type `{name}` is named `{word}`"),
        instead,
    ))
}

fn of_outcomes(file: &str, text: &str) -> Vec<Violation> {
    let is_name = |text: &&str| {
        let is_plain = text.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        is_plain && text.contains('-') && !text.ends_with('-')
    };
    let mut violations = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let is_comment = line.trim_start().starts_with("//");
        for name in line.split('"').skip(1).step_by(2).filter(is_name).filter(|_| !is_comment) {
            let at_dashes = format!("-{name}-");
            let found = OUTCOMES.iter().find(|(part, _)| at_dashes.contains(&format!("-{part}-")));
            violations.extend(found.map(|(part, instead)| {
                let subject = format!("outcome {name}");
                let message = format!("{file}:{number}: the outcome `{name}` is named `{part}`");
                violation(subject, message, instead)
            }));
        }
    }
    violations
}

fn violation(subject: String, message: String, instead: &str) -> Violation {
    let message = format!("{message}, a retired word: use {instead}.");
    Violation { subject, message }
}

/// The retired name that `name` is as a whole in `file`, and what to use.
fn whole(
    names: &'static [(&str, &str, &str)],
    file: &str,
    name: &str,
) -> Option<(&'static str, &'static str)> {
    let found = names.iter().find(|(folder, word, _)| *word == name && file.starts_with(folder));
    found.map(|(_, word, instead)| (*word, *instead))
}

/// The first of the parts that is retired, and what to use.
fn retired<'a>(mut parts: impl Iterator<Item = &'a str>) -> Option<(&'static str, &'static str)> {
    parts.find_map(|part| WORDS.iter().find(|(word, _)| *word == part).copied())
}

/// The parts of a CamelCase name, in lower case.
fn parts_of_type(name: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for c in name.chars() {
        if c.is_uppercase() || parts.is_empty() {
            parts.push(String::new());
        }
        if let Some(last) = parts.last_mut() {
            last.extend(c.to_lowercase());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::super::tests::violations;
    use super::*;

    #[track_caller]
    fn found(file: &str, text: &str) -> Vec<String> {
        violations(&[(file, text)], check)
    }

    #[test]
    fn a_retired_word_is_refused_as_a_file_s_name() {
        assert_eq!(
            found("lb-ebpf/src/balance.rs", ""),
            ["lb-ebpf/src/balance.rs is named `balance`, a retired word: use walk."]
        );
        assert_eq!(found("lb-ebpf/src/unusual/mod.rs", "").len(), 1);
        assert_eq!(found("lb-ebpf/src/icmp_answer.rs", "").len(), 1);
        for right in ["lb-ebpf/src/in_memory.rs", "tests/placement.rs", "tests/many_connections.rs"]
        {
            assert_eq!(found(right, ""), Vec::<String>::new());
        }
    }

    #[test]
    fn a_retired_word_is_refused_as_a_part_of_a_type_s_name() {
        assert_eq!(
            found(
                "tests/src/a.rs",
                "\nstruct RemarkList;\nstruct Remarkable;\nstruct ConnectionPool;"
            ),
            [
                "tests/src/a.rs:2: the type `RemarkList` is named `remark`, a retired word: use warning."
            ]
        );
        assert_eq!(found("tests/src/a.rs", "enum Connection {}"), Vec::<String>::new());
        assert_eq!(found("lb-common/src/a.rs", "enum Connection {}").len(), 1);
        assert_eq!(found("tests/src/a.rs", "trait Stage {}\ntype Place = u8;").len(), 2);
    }

    #[test]
    fn the_files_that_name_outcomes_exist() {
        for file in NAMED {
            assert!(crate::workspace::root().join(file).is_file(), "{file}: say what replaced it");
        }
    }

    #[test]
    fn a_retired_word_is_refused_in_an_outcome_s_name() {
        let text = "outcomes! {\n    ForwardedOut, Translated, \"forwarded-out\", \"sent\";\n}";
        assert_eq!(
            found("lb-common/src/outcome.rs", text),
            [
                "lb-common/src/outcome.rs:2: the outcome `forwarded-out` is named `out`, a retired word: \
              use snat."
            ]
        );
        let right =
            "outcomes! { A, B, \"forwarded-snat\", \"c\"; D, E, \"passed-icmp-error\", \"d\"; }";
        assert_eq!(found("lb-common/src/outcome.rs", right), Vec::<String>::new());
    }
}
