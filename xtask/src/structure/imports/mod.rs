//! The imports allowed, by the rules of `datapath` and `agent`: the arrows that ARCHITECTURE.md draws.

mod agent;
mod datapath;
mod rule;

use std::collections::{BTreeMap, BTreeSet};

use super::crates::Crate;
use super::syntax::Source;
use super::tree::Violation;
use rule::Rule;

/// The imports that a rule forbids; files for tests alone may import what they like.
pub fn check(crates: &[Crate], sources: &BTreeMap<String, Source>) -> Vec<Violation> {
    let tests: BTreeSet<&str> = crates.iter().flat_map(Crate::test_files).collect();
    let others = sources.iter().filter(|(file, _)| !tests.contains(file.as_str()));
    others.flat_map(|(file, source)| of_file(file, source)).collect()
}

fn of_file(file: &str, source: &Source) -> Vec<Violation> {
    let rules: Vec<&Rule> =
        datapath::RULES.iter().chain(agent::RULES).filter(|rule| rule.applies_to(file)).collect();
    let uses = source.uses.iter().map(|leaf| (&leaf.path, &leaf.inside, leaf.line));
    let names = source.names.iter().map(|name| (&name.path, &name.inside, name.line));
    let mut violations: Vec<Violation> = uses
        .chain(names)
        .filter_map(|(path, inside, line)| {
            let name = full(path, &module_of(file, inside));
            let rule = rules.iter().find(|rule| rule.forbids(&name))?;
            Some(Violation {
                subject: format!("import {file} {name}"),
                message: format!("{file}:{line} imports `{name}`. {}", rule.instead),
            })
        })
        .collect();
    violations.sort();
    violations.dedup();
    violations
}

/// The module that `file` is, such as `crate::plan::pools`, and those around a path within it.
fn module_of(file: &str, inside: &[String]) -> Vec<String> {
    let within = file.split_once("/src/").map_or(file, |(_, within)| within);
    let path = within.trim_end_matches(".rs");
    let mut module = vec!["crate".to_owned()];
    module.extend(path.split('/').map(str::to_owned));
    if matches!(path.rsplit('/').next(), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module.extend_from_slice(inside);
    module
}

/// A path from the crate's root, where it is relative to `module`.
fn full(path: &[String], module: &[String]) -> String {
    let mut base = module.to_vec();
    let mut rest = path;
    match rest.first().map(String::as_str) {
        Some("self") => rest = &rest[1..],
        Some("super") => {}
        Some(_) | None => return path.join("::"),
    }
    while rest.first().is_some_and(|part| part == "super") {
        base.pop();
        rest = &rest[1..];
    }
    [base.as_slice(), rest].concat().join("::")
}

#[cfg(test)]
mod tests {
    use super::super::tests::violations;
    use super::*;

    #[track_caller]
    fn accepted(file: &str, text: &str) {
        let found = violations(&[(file, text)], |_, sources| check(&[], sources));
        assert_eq!(found, Vec::<String>::new());
    }

    #[track_caller]
    fn refused(file: &str, text: &str, named: &str) {
        let found = violations(&[(file, text)], |_, sources| check(&[], sources));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(named), "{found:?}");
    }

    #[test]
    fn super_and_self_are_resolved_against_the_file_s_module() {
        let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
        let of = |file: &str, text: &str| full(&path(text), &module_of(file, &[]));
        assert_eq!(of("lb-userspace/src/plan/pools.rs", "super::ids"), "crate::plan::ids");
        assert_eq!(of("lb-userspace/src/plan/pools.rs", "self::x::Y"), "crate::plan::pools::x::Y");
        assert_eq!(
            of("lb-userspace/src/plan/pools.rs", "super::super::agent::Z"),
            "crate::agent::Z"
        );
        assert_eq!(of("lb-userspace/src/plan/mod.rs", "super::model::A"), "crate::model::A");
    }

    #[test]
    fn the_walk_of_a_packet_does_not_know_the_kernel() {
        let text = "use aya_ebpf::programs::XdpContext;";
        refused("lb-ebpf/src/walk.rs", text, "aya_ebpf::programs::XdpContext");
        accepted("lb-ebpf/src/kernel/xdp.rs", text);
        accepted("lb-ebpf/src/main.rs", text);
    }

    #[test]
    fn headers_and_packet_state_lie_below_conntrack_and_that_below_the_walk() {
        refused("lb-ebpf/src/packet_state.rs", "use crate::conntrack::lookup;", "conntrack");
        refused("lb-ebpf/src/wire/icmp.rs", "use crate::walk::walk;", "walk");
        refused("lb-ebpf/src/conntrack/create.rs", "use super::super::walk::walk;", "crate::walk");
        refused("lb-ebpf/src/walk.rs", "use crate::in_memory::World;", "in_memory");
        accepted("lb-ebpf/src/walk.rs", "use crate::conntrack::lookup; use crate::wire::ipv4;");
        accepted("lb-ebpf/src/cases/mod.rs", "use crate::in_memory::World; use crate::walk::walk;");
    }

    #[test]
    fn kubernetes_types_end_at_the_sources() {
        let text = "fn name(pod: &k8s_openapi::api::core::v1::Pod) {}";
        refused("lb-userspace/src/plan/mod.rs", text, "k8s_openapi");
        accepted("lb-userspace/src/source/convert/mod.rs", text);
    }

    #[test]
    fn the_plan_knows_the_model_and_contents_but_no_other_map_code() {
        accepted(
            "lb-userspace/src/plan/mod.rs",
            "use crate::{model::Cluster, maps::contents::Contents};",
        );
        refused("lb-userspace/src/plan/mod.rs", "use crate::maps::kernel::KernelMaps;", "kernel");
        refused("lb-userspace/src/plan/pools.rs", "use super::super::agent::Agent;", "agent");
    }

    #[test]
    fn pure_modules_read_no_clock_and_no_file() {
        let clock = "fn f() { let t = std::time::Instant::now(); }";
        refused("lb-userspace/src/plan/mod.rs", clock, "Instant");
        refused("lb-userspace/src/maps/diff.rs", "use std::{fs, fmt};", "std::fs");
        accepted("lb-userspace/src/plan/mod.rs", "use std::time::Duration;");
        accepted("lb-userspace/src/agent/run.rs", "use std::time::Instant;");
    }

    #[test]
    fn aya_ends_at_the_kernel_s_maps_and_the_programs() {
        refused("lb-userspace/src/agent/mod.rs", "use aya::Ebpf;", "aya::Ebpf");
        accepted("lb-userspace/src/datapath/loader.rs", "use aya::Ebpf;");
        accepted("lb-userspace/src/maps/kernel.rs", "use aya::maps::Map;");
    }

    #[test]
    fn each_module_of_the_agent_imports_those_below_it_alone() {
        refused("lb-userspace/src/config/mod.rs", "use crate::agent::Agent;", "agent");
        refused("lb-userspace/src/observe/mod.rs", "use crate::datapath::Features;", "datapath");
        refused("lb-userspace/src/agent/run.rs", "use crate::cli::Cli;", "cli");
        refused("lb-userspace/src/main.rs", "use lb_userspace::agent;", "agent");
        accepted("lb-userspace/src/cli/run.rs", "use crate::agent::Agent;");
    }

    #[test]
    fn the_shared_crate_imports_no_other() {
        refused("lb-common/src/maps.rs", "use lb_userspace::plan;", "lb_userspace::plan");
        refused("lb-ebpf/src/backend_select.rs", "use lb_userspace::plan;", "lb_userspace::plan");
    }

    #[test]
    fn a_file_of_tests_may_import_what_it_needs() {
        let tests = ("lb-userspace/src/plan/tests.rs", "use std::time::Instant;");
        let plan = |declared| ("lb-userspace/src/plan/mod.rs", declared);
        let root = ("lb-userspace/src/lib.rs", "mod plan;");
        let found = |declared| {
            violations(&[root, plan(declared), tests], |tree, sources| {
                check(&Crate::all(tree, sources), sources)
            })
        };
        assert_eq!(found("#[cfg(test)]\nmod tests;"), Vec::<String>::new());
        assert_eq!(found("mod tests;").len(), 1);
    }

    #[test]
    fn tests_within_a_file_may_import_what_they_need() {
        accepted(
            "lb-userspace/src/plan/mod.rs",
            "fn plan() {}\n#[cfg(test)]\nmod tests { use crate::source::manifests; }",
        );
    }
}
