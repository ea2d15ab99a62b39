//! The table of docs/kernels.md: which kernels were seen at work. The run that saw one writes its row.

use std::fs;

use anyhow::{Context, Result};

use super::catalogue::{CLAIMS, Claim, Depth, Kernel};
use super::machine::Report;
use super::result::KernelResult;
use crate::workspace::root;

/// The page, and the lines between which the table stands.
const PAGE: &str = "docs/kernels.md";
const BEGIN: &str = "<!-- written by `cargo xtask test --only kernels` -->\n";
const END: &str = "<!-- end -->\n";

/// Writes what was seen into the page; rows of kernels that are claimed and were not tried stay.
///
/// # Errors
/// The page is not there, or has no lines for a table.
pub fn write(tried: &[KernelResult]) -> Result<()> {
    let path = root().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("{PAGE} lacks {BEGIN}"))?;
    let (rows, after) = rest.split_once(END).with_context(|| format!("{PAGE} lacks {END}"))?;
    fs::write(path, format!("{before}{BEGIN}{}{END}{after}", table(tried, rows)))?;
    eprintln!("{PAGE}: written");
    Ok(())
}

/// The table, of which `before` were the rows.
fn table(tried: &[KernelResult], before: &str) -> String {
    let mut table = String::from(
        "| Linux | processor | runs on | programs | TC | XDP | the node's own processes | seen | seconds |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for claim in CLAIMS {
        let kernel = claim.kernel();
        let is_more_precise = |other: &Kernel| {
            other.architecture == kernel.architecture
                && other.version != kernel.version
                && kernel.has(&other.version)
        };
        let row = match tried.iter().find(|tried| tried.kernel == kernel) {
            Some(tried) => Some(row(tried, claim.runs_on)),
            None => before.lines().find_map(|line| {
                let mut cells = line.split(" | ");
                let version = cells.next()?.strip_prefix("| ")?;
                let is_it = kernel.has(version)
                    && cells.next()? == kernel.architecture.name()
                    && !CLAIMS
                        .iter()
                        .map(Claim::kernel)
                        .any(|k| is_more_precise(&k) && k.has(version));
                is_it.then(|| format!("{line}\n"))
            }),
        };
        table += &row.unwrap_or_default();
    }
    table
}

fn row(tried: &KernelResult, runs_on: &str) -> String {
    let none = Report::default();
    let report = tried.report.as_ref().unwrap_or(&none);
    let [programs, tc, xdp, sockets] = facts(report);
    let cells = [
        if tried.version.is_empty() { tried.kernel.version.clone() } else { upstream(tried) },
        tried.kernel.architecture.name().to_owned(),
        runs_on.to_owned(),
        programs,
        tc,
        xdp,
        sockets,
        seen(tried).to_owned(),
        report.took.as_secs().to_string(),
    ];
    format!("| {} |\n", cells.join(" | "))
}

/// The version without Debian's own.
fn upstream(tried: &KernelResult) -> String {
    tried.version.split('-').next().unwrap_or_default().to_owned()
}

/// What was seen of it.
fn seen(tried: &KernelResult) -> &'static str {
    match (tried.is_good(), tried.depth) {
        (false, _) => "**failed**",
        (true, Depth::Load) => "loads and attaches",
        (true, Depth::Lab) => "packet cases, lab",
        (true, Depth::All) => "all tests, demonstration",
    }
}

/// What `weir check -o json` said there of programs, TC, XDP and sockets.
fn facts(report: &Report) -> [String; 4] {
    let said = report.steps.iter().find(|step| step.name == "facts");
    let said = said.map(|step| step.lines.join("\n")).unwrap_or_default();
    let findings: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
    let finding = |about: &str| {
        let all = findings.as_array()?;
        let found = all.iter().find(|finding| finding["about"] == about)?;
        Some((found["level"].as_str()?.to_owned(), found["found"].as_str()?.to_owned()))
    };
    let of = |about: &str, good: &dyn Fn(&str) -> &'static str| match finding(about) {
        Some((level, found)) if level == "ok" => good(&found).to_owned(),
        Some(_) => "**no**".to_owned(),
        None => "not seen".to_owned(),
    };
    [
        of("programs", &|_| "yes"),
        of("TC", &|found| if found.contains("tcx") { "links (tcx)" } else { "filters (clsact)" }),
        of("XDP", &|_| "yes"),
        of("socket programs", &|found| {
            if found.contains("EPERM") { "yes; rejected datagrams fail with EPERM" } else { "yes" }
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::machine::Step;

    fn tried(facts: &str, depth: Depth) -> KernelResult {
        let step = |name: &str, lines: &str| Step {
            name: name.into(),
            succeeded: Some(true),
            lines: lines.lines().map(str::to_owned).collect(),
        };
        let release = String::from("6.1.0-56-cloud-amd64");
        let report = Report {
            release: release.clone(),
            steps: vec![step("facts", facts)],
            is_done: true,
            ..Report::default()
        };
        let kernel = "6.1".parse().unwrap();
        let version = "6.1.192-2".into();
        KernelResult { kernel, depth, version, release, has_fault: false, report: Ok(report) }
    }

    #[test]
    fn a_kernel_s_row_says_what_it_was_seen_to_do() {
        let facts = r#"[
            {"about": "programs", "level": "ok", "found": "the kernel takes them"},
            {"about": "TC", "level": "ok", "found": "by filters of a clsact qdisc"},
            {"about": "socket programs", "level": "ok", "found": "a call fails with EPERM"},
            {"about": "XDP", "level": "warn", "found": "network_xdp is refused"}
        ]"#;
        let table = table(&[tried(facts, Depth::Lab)], "");
        let row = table.lines().last().unwrap();
        assert_eq!(
            row,
            "| 6.1.192 | x86_64 | Debian 12 | yes | filters (clsact) | **no** | yes; rejected \
             datagrams fail with EPERM | packet cases, lab | 0 |"
        );
    }

    #[test]
    fn of_a_guest_that_failed_nothing_is_claimed() {
        let mut failed = tried("", Depth::Lab);
        failed.report = Err(anyhow::anyhow!("the guest stopped"));
        let row = table(&[failed], "");
        assert!(row.contains("**failed**") && row.contains("not seen"), "{row}");
    }

    #[test]
    fn rows_of_kernels_that_were_not_tried_stay_and_those_of_no_claim_go() {
        let before = "| 5.4.1 | x86_64 | x |\n| 6.12.43 | x86_64 | a |\n| 6.12.118 | x86_64 | b |\n\
                      | 6.12.118 | aarch64 | c |\n| 6.1.1 | x86_64 | old |\n";
        let table = table(&[tried("", Depth::Lab)], before);
        let rows: Vec<&str> = table.lines().skip(2).map(|row| &row[..row.len().min(26)]).collect();
        assert_eq!(rows[0], "| 6.1.192 | x86_64 | Debia");
        assert_eq!(rows[1], "| 6.12.43 | x86_64 | a |");
        assert_eq!(rows[2], "| 6.12.118 | x86_64 | b |");
        assert_eq!(rows[3], "| 6.12.118 | aarch64 | c |");
        assert_eq!(rows.len(), 4);
    }

    #[test]
    fn the_page_has_lines_for_the_table() {
        let page = fs::read_to_string(root().join(PAGE)).unwrap();
        let rest = page.split_once(BEGIN).unwrap().1;
        assert!(rest.contains(END));
    }
}
