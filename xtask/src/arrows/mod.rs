//! The arrows of the design: who may name whom. Each rule says which files it holds for, what they
//! must not name, and what to do instead; a breach becomes a sentence.

mod names;
mod rules;
mod sizes;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use names::Source;
use rules::{RULES, Rule};

/// What was found in the source tree.
#[derive(Default)]
pub struct Findings {
    /// Arrows that are broken, one sentence each.
    pub breaches: Vec<String>,
    /// What is larger than the house's sizes: worth a look, no failure.
    pub notes: Vec<String>,
}

/// Checks every Rust file of the workspace under `root`.
pub fn check(root: &Path) -> Result<Findings> {
    let mut findings = Findings::default();
    for file in rust_files(root)? {
        let text = std::fs::read_to_string(root.join(&file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        let file = file.to_string_lossy().into_owned();
        findings.breaches.extend(breaches(&file, &text));
        findings.notes.extend(sizes::notes(&file, &text));
    }
    findings.notes.extend(sizes::crowded_folders(root)?);
    Ok(findings)
}

/// The sentences about `file`, whose content is `text`.
fn breaches(file: &str, text: &str) -> Vec<String> {
    let source = Source::read(file, text);
    let held: Vec<&Rule> = RULES.iter().filter(|rule| rule.holds_for(file)).collect();
    let mut sentences: Vec<String> = source
        .names
        .iter()
        .filter_map(|name| {
            let rule = held.iter().find(|rule| rule.forbids(&name.path))?;
            Some(format!("{file}:{} names `{}`. {}", name.line, name.path, rule.instead))
        })
        .collect();
    sentences.dedup();
    if !rules::may_be_unsafe(file) {
        sentences.extend(
            source
                .unsafe_lines
                .iter()
                .map(|line| format!("{file}:{line} is unsafe. {}", rules::INSTEAD_OF_UNSAFE)),
        );
    }
    sentences
}

/// Every Rust file of the workspace's packages, relative to `root`.
fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for package in ["lb-common", "lb-ebpf", "lb-userspace", "tests", "xtask"] {
        collect(root, Path::new(package), &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = root.join(folder);
    for entry in std::fs::read_dir(&entries)
        .with_context(|| format!("cannot read the folder {}", entries.display()))?
    {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() && entry.file_name() != "target" {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn accepted(file: &str, text: &str) {
        assert_eq!(breaches(file, text), Vec::<String>::new());
    }

    #[track_caller]
    fn refused(file: &str, text: &str, named: &str) {
        let found = breaches(file, text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(named), "{found:?}");
    }

    #[test]
    fn the_source_tree_keeps_every_arrow() {
        let findings = check(crate::workspace::root()).unwrap();
        assert_eq!(findings.breaches, Vec::<String>::new());
    }

    #[test]
    fn the_walk_of_a_packet_does_not_know_the_kernel() {
        let text = "use aya_ebpf::programs::XdpContext;";
        refused("lb-ebpf/src/balance.rs", text, "aya_ebpf::programs::XdpContext");
        accepted("lb-ebpf/src/kernel/xdp.rs", text);
        accepted("lb-ebpf/src/main.rs", text);
    }

    #[test]
    fn kubernetes_types_end_at_the_sources() {
        let text = "fn name(pod: &k8s_openapi::api::core::v1::Pod) {}";
        refused("lb-userspace/src/plan/mod.rs", text, "k8s_openapi");
        accepted("lb-userspace/src/source/convert.rs", text);
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
        refused("lb-userspace/src/plan/mod.rs", "let t = std::time::Instant::now();", "Instant");
        refused("lb-userspace/src/maps/diff.rs", "use std::{fs, fmt};", "std::fs");
        accepted("lb-userspace/src/plan/mod.rs", "use std::time::Duration;");
        accepted("lb-userspace/src/agent/run.rs", "use std::time::Instant;");
    }

    #[test]
    fn aya_ends_at_the_kernel_s_maps_and_the_programs() {
        refused("lb-userspace/src/agent/mod.rs", "use aya::Ebpf;", "aya::Ebpf");
        accepted("lb-userspace/src/programs/object.rs", "use aya::Ebpf;");
        accepted("lb-userspace/src/maps/kernel.rs", "use aya::maps::Map;");
    }

    #[test]
    fn unsafe_stays_in_its_few_places() {
        refused("lb-userspace/src/cli/run.rs", "fn f() { unsafe { g() } }", "unsafe");
        accepted("lb-userspace/src/syscall.rs", "fn f() { unsafe { g() } }");
        accepted("lb-userspace/src/cli/run.rs", "// unsafe\nfn f() { \"unsafe\"; }");
    }

    #[test]
    fn the_shared_crate_names_nothing_of_the_house() {
        refused("lb-common/src/maps.rs", "use lb_userspace::plan;", "lb_userspace::plan");
        refused("lb-ebpf/src/choose.rs", "use lb_userspace::plan;", "lb_userspace::plan");
    }

    #[test]
    fn what_tests_within_a_file_name_is_their_own_affair() {
        accepted(
            "lb-userspace/src/plan/mod.rs",
            "fn plan() {}\n#[cfg(test)]\nmod tests { use crate::source::manifests; }",
        );
    }
}
