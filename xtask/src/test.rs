//! Running the tests, section by section, with a count and a time for each.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::build::{agent_with_other_layout, cargo_for_tests, cargo_for_tests_without_programs};
use crate::command::{run as run_command, run_reading};
use crate::kernels::Choice;
use crate::workspace::root;
use crate::{control_plane, go, kernels, tools};

/// A part of the tests, by what it needs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// Unit tests: nothing.
    Unit,
    /// Properties, and scenarios (objects in; warnings, contents and packets out): nothing.
    Scenarios,
    /// The examples in doc comments: nothing.
    Examples,
    /// What Helm and kustomize make of deploy/: nothing; Go to render it anew.
    Deploy,
    /// The programs in this machine's kernel: root.
    Kernel,
    /// Real clients and servers in network namespaces: root.
    EndToEnd,
    /// The agent under a real Kubernetes control plane, and kube-proxy beside it: root, and
    /// Kubernetes' programs or Go.
    ControlPlane,
    /// The kernels of distributions in emulated machines: apt, and Debian's packages.
    Kernels,
}

/// The result of one section.
struct Report {
    name: &'static str,
    counts: Counts,
    succeeded: bool,
    took: Duration,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Runs the sections of `only`, or all if it names none, each to its end, and then prints the
/// results.
pub fn run(only: &[Section], choice: &Choice, filter: Option<&str>) -> Result<()> {
    let started = Instant::now();
    let skips = env::temp_dir().join(format!("weir-skipped-{}", std::process::id()));
    let mut reports = Vec::new();
    let chosen: Vec<Section> = chosen(only, filter).collect();
    let loads_programs = chosen.iter().any(|section| section.loads_programs());
    for section in chosen {
        reports.push(match section {
            Section::Kernels => run_kernels(choice, &skips)?,
            Section::Unit
            | Section::Scenarios
            | Section::Examples
            | Section::Deploy
            | Section::Kernel
            | Section::EndToEnd
            | Section::ControlPlane => run_section(section, loads_programs, filter, &skips)?,
        });
    }
    let skipped = std::fs::read_to_string(&skips).unwrap_or_default();
    let _ = std::fs::remove_file(&skips);
    conclude(&reports, &skipped, started.elapsed())
}

/// The sections of `only`, or all if it names none.
fn chosen(only: &[Section], filter: Option<&str>) -> impl Iterator<Item = Section> {
    Section::value_variants().iter().copied().filter(move |section| {
        // A guest takes a minute and more to run nothing: a name alone boots none.
        let is_usual = only.is_empty() && (*section != Section::Kernels || filter.is_none());
        is_usual || only.contains(section)
    })
}

impl Section {
    /// Whether its tests, built for this machine, load the programs or run the agent.
    const fn loads_programs(self) -> bool {
        match self {
            Self::Kernel | Self::EndToEnd | Self::ControlPlane => true,
            // Guests run builds of their own.
            Self::Unit | Self::Scenarios | Self::Examples | Self::Deploy | Self::Kernels => false,
        }
    }
}

fn run_section(
    section: Section,
    loads_programs: bool,
    filter: Option<&str>,
    skips: &PathBuf,
) -> Result<Report> {
    let (name, mut command) = command(section, loads_programs)?;
    eprintln!("== {name}");
    let started = Instant::now();
    let mut counts = Counts::default();
    command.env("WEIR_SKIPPED", skips).args(filter);
    let succeeded = run_reading(&mut command, |line| counts.add(line))?;
    Ok(Report { name, counts, succeeded, took: started.elapsed() })
}

/// Boots other kernels.
fn run_kernels(choice: &Choice, skips: &Path) -> Result<Report> {
    let name = "other kernels";
    eprintln!("== {name}");
    let started = Instant::now();
    let mut counts = Counts::default();
    let mut succeeded = true;
    let mut skipped = Vec::new();
    match kernels::missing(choice) {
        Some(missing) => {
            counts.passed += 1;
            skipped.push(format!("{name}: {missing}"));
        }
        None => {
            let tried = kernels::run(choice, |line| counts.add(line))?;
            let failed = kernels::failed(&tried);
            if !failed.is_empty() {
                eprintln!("failed on Linux {}", failed.join(", "));
                succeeded = false;
            }
            skipped = kernels::skipped(&tried);
        }
    }
    let mut file = OpenOptions::new().append(true).create(true).open(skips)?;
    skipped.iter().try_for_each(|line| writeln!(file, "{line}"))?;
    Ok(Report { name, counts, succeeded, took: started.elapsed() })
}

/// What runs a section, with the object built if one of the chosen sections loads it. Each chooses the whole
/// workspace and then some of its tests: a choice of packages would be built with other features, and
/// everything below them anew.
fn command(section: Section, loads_programs: bool) -> Result<(&'static str, Command)> {
    let mut command =
        if loads_programs { cargo_for_tests()? } else { cargo_for_tests_without_programs() };
    command.args(["test", "--workspace", "--no-fail-fast"]);
    let name = match section {
        Section::Unit => {
            command.args(["--lib", "--bins"]);
            "unit tests"
        }
        Section::Scenarios => {
            for name in tests_in("lb-ebpf/tests")?.iter().chain(&tests_in("lb-userspace/tests")?) {
                command.args(["--test", name]);
            }
            "cases, properties, scenarios"
        }
        Section::Examples => {
            command.arg("--doc");
            "examples in doc comments"
        }
        Section::Deploy => {
            command.envs(go::program("tests/deploy/render")?.map(|path| ("WEIR_RENDER", path)));
            command.args(["--test", "deploy"]);
            "what is installed"
        }
        Section::Kernel => {
            command.args(["--test", "kernel"]);
            "the programs in this kernel"
        }
        Section::EndToEnd => {
            tools::for_the_lab()?;
            let (variable, agent) = agent_with_other_layout()?;
            command.env(variable, agent);
            build_agent_for_tests()?;
            command.args(["--test", "end_to_end"]);
            "end to end"
        }
        Section::ControlPlane => {
            tools::for_the_lab()?;
            tools::for_kube_proxy()?;
            build_agent_for_tests()?;
            command.args(["--test", "control_plane"]);
            command.env(control_plane::FOLDERS, control_plane::folders()?);
            command.env("RUST_TEST_THREADS", control_planes_at_a_time().to_string());
            "under a control plane"
        }
        Section::Kernels => bail!("run by `run_kernels`"),
    };
    Ok((name, command))
}

/// Each of those tests runs a control plane of its own: a gigabyte, and a processor while it starts.
/// Two do well on one processor, for they also wait.
fn control_planes_at_a_time() -> usize {
    std::thread::available_parallelism().map_or(2, |processors| processors.get().clamp(2, 6))
}

/// The names of the integration tests in `folder`, as cargo finds them.
fn tests_in(folder: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join(folder))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            || path.join("main.rs").exists()
        {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    Ok(names)
}

/// Builds the agent with the features that tests are built with. Cargo does so for a package's own
/// integration tests, and for nothing else.
pub fn build_agent_for_tests() -> Result<()> {
    run_command(
        cargo_for_tests()?.args(["test", "--workspace", "--no-run", "--test", "scenarios"]),
        "Fix what the compiler names above.",
    )
}

fn conclude(reports: &[Report], skipped: &str, took: Duration) -> Result<()> {
    eprintln!();
    for report in reports {
        let verdict = if report.succeeded { "ok" } else { "FAILED" };
        let Counts { passed, failed, .. } = report.counts;
        eprintln!(
            "{:28} {verdict:6} {passed:4} passed {failed:4} failed {:6.1} s",
            report.name,
            report.took.as_secs_f64()
        );
    }
    let skips = skipped.lines().count() as u64;
    for line in skipped.lines() {
        eprintln!("skipped: {line}");
    }
    eprintln!("in {:.0} s", took.as_secs_f64());
    let total = reports.iter().fold(Counts::default(), |sum, report| Counts {
        passed: sum.passed + report.counts.passed,
        failed: sum.failed + report.counts.failed,
        ignored: sum.ignored + report.counts.ignored,
    });
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed.saturating_sub(skips),
        total.failed,
        total.ignored + skips
    );
    judge(reports, total, skips)
}

fn judge(reports: &[Report], total: Counts, skips: u64) -> Result<()> {
    if let Some(report) = reports.iter().find(|report| !report.succeeded) {
        bail!(
            "{} failed: the names stand above under `failures:`. \
             `cargo xtask test --only SECTION NAME` runs one of them.",
            report.name
        );
    }
    if env::var_os("CI").is_some() && skips + total.ignored > 0 {
        bail!("tests were skipped, which CI does not accept: give it what they say they need.");
    }
    if total.passed == 0 {
        bail!("no test ran: the filter fits none. Leave it out, or choose another section.");
    }
    Ok(())
}

impl Counts {
    /// Takes in a line of a test binary's output if it is its summary.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) =
            line.split_once("test result: ").and_then(|(_, rest)| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split("; ") {
            let mut words = part.split(' ');
            let number = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("ignored") => self.ignored += number,
                Some(_) | None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summaries_of_test_binaries_add_up() {
        let mut counts = Counts::default();
        counts.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s");
        counts.add("test a_sentence ... ok");
        counts
            .add("test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(counts, Counts { passed: 5, failed: 4, ignored: 1 });
    }

    #[test]
    fn sections_that_need_nothing_build_no_object() {
        let needs = |only: &[Section]| chosen(only, None).any(Section::loads_programs);
        assert!(!needs(&[Section::Unit, Section::Scenarios, Section::Deploy]));
        assert!(needs(&[Section::Unit, Section::Kernel]));
        assert!(needs(&[]));
    }

    #[test]
    fn a_run_in_which_no_test_ran_is_a_failure() {
        let report = Report {
            name: "unit tests",
            counts: Counts::default(),
            succeeded: true,
            took: Duration::ZERO,
        };
        assert!(judge(&[report], Counts::default(), 0).is_err());
    }
}
