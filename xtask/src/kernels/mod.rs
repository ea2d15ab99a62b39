//! The section `kernels` of the tests: the kernels of distributions, booted in an emulated machine, in
//! each of which the programs are loaded and, further, serve real traffic.

pub mod architecture;
mod catalogue;
pub mod debian;
mod guest;
mod machine;
mod table;

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{build, tools};
use architecture::Architecture;
use catalogue::CLAIMS;
pub use catalogue::{Depth, Kernel};
use guest::{Base, Image};
use machine::{Report, Step};

/// What came of one kernel.
pub struct Tried {
    /// Which one was asked for.
    pub kernel: Kernel,
    /// How far it was to be tried.
    pub depth: Depth,
    /// Debian's version of it; empty if there was none.
    pub version: String,
    /// What it did, or why it did nothing.
    pub report: Result<Report>,
}

impl Tried {
    fn is_good(&self) -> bool {
        self.report.as_ref().is_ok_and(Report::is_good)
    }

    /// Whether the verifier saw that a register was not written, and nothing was loaded.
    fn refuses_the_fault(&self) -> bool {
        let has_refused = |step: &Step| {
            let is_refused = |line: &String| line.contains("!read_ok");
            step.name == "load"
                && step.succeeded == Some(false)
                && step.lines.iter().any(is_refused)
        };
        self.report.as_ref().is_ok_and(|report| report.steps.iter().any(has_refused))
    }
}

/// Which kernels, and how far.
#[derive(Clone, Default)]
pub struct Choice {
    /// The kernels asked for; without any, those that are claimed.
    pub kernels: Vec<Kernel>,
    /// How far; without it as far as usual.
    pub depth: Option<Depth>,
    /// Whether this section alone was asked for.
    pub alone: bool,
    /// Only tests whose name contains this are run, if it is given.
    pub filter: Option<String>,
    /// Whether the programs are to have a fault, which each kernel must refuse.
    pub fault: bool,
}

impl Choice {
    /// Each kernel and how far it is tried.
    fn wanted(&self) -> Vec<(Kernel, Depth)> {
        let depth = self.depth.unwrap_or(Depth::Lab);
        if !self.kernels.is_empty() {
            return self.kernels.iter().map(|kernel| (kernel.clone(), depth)).collect();
        }
        let usual = |always: Option<Depth>| if self.alone { Some(depth) } else { always };
        CLAIMS.iter().filter_map(|claim| Some((claim.kernel(), usual(claim.always)?))).collect()
    }
}

/// Why this machine cannot boot others; the section is then skipped.
pub fn obstacle(choice: &Choice) -> Option<String> {
    let missing =
        ["apt-get", "apt-cache", "dpkg"].into_iter().find(|p| tools::on_path(p).is_none());
    if let Some(missing) = missing {
        return Some(format!("needs `{missing}`, by which Debian's kernels are fetched"));
    }
    let mut architectures: Vec<_> =
        choice.wanted().iter().map(|(kernel, _)| kernel.architecture).collect();
    architectures.sort();
    architectures.dedup();
    architectures.into_iter().find_map(|architecture| {
        let error = tools::for_guests(architecture.emulator())
            .and_then(|()| guest::can_be_had(architecture))
            .err()?;
        Some(format!("needs Debian's packages: {error:#}"))
    })
}

/// Boots each kernel and tries it; every line that passes is given to `read`, for its counts.
///
/// # Errors
/// What the guests need cannot be had. That one of them failed is no error, but in what is returned.
pub fn run(choice: &Choice, mut read: impl FnMut(&str)) -> Result<Vec<Tried>> {
    let mut tried = Vec::new();
    let mut base: Option<(Architecture, Base)> = None;
    for (kernel, depth) in choice.wanted() {
        let architecture = kernel.architecture;
        if base.as_ref().is_none_or(|(of, _)| *of != architecture) {
            base = Some((architecture, Base::of(architecture, choice.fault)?));
        }
        let Some((_, base)) = &base else { continue };
        eprintln!("-- Linux {kernel}");
        let how = (depth, choice.filter.as_deref());
        let tried_now = if choice.fault {
            // What fails there is what is wanted, and counts as no failure.
            try_one(base, kernel, how, &mut |_| ())
        } else {
            try_one(base, kernel, how, &mut read)
        };
        tell(&tried_now);
        tried.push(tried_now);
    }
    if choice.fault {
        let found = tried.iter().filter(|tried| tried.refuses_the_fault()).count();
        read(&format!("test result: ok. {found} passed; {} failed", tried.len() - found));
        tried.retain(|tried| !tried.refuses_the_fault());
        return Ok(tried);
    }
    if choice.alone
        && choice.kernels.is_empty()
        && choice.depth.is_none()
        && choice.filter.is_none()
    {
        table::write(&tried)?;
    }
    Ok(tried)
}

fn try_one(
    base: &Base,
    kernel: Kernel,
    (depth, filter): (Depth, Option<&str>),
    read: &mut impl FnMut(&str),
) -> Tried {
    let mut tried = Tried { kernel, depth, version: String::new(), report: Ok(Report::default()) };
    tried.report = Image::of(&tried.kernel).and_then(|image| {
        tried.version.clone_from(&image.version);
        eprintln!("booting {}", image.version);
        let initrd = base.with(&image)?;
        let mut log = log(&tried.kernel)?;
        machine::run(tried.kernel.architecture, &image.kernel(), &initrd, (depth, filter), |line| {
            // What cannot be logged is still judged.
            let _ = writeln!(log, "{line}");
            read(line);
        })
    });
    tried
}

/// Where a guest's console is kept.
fn log(kernel: &Kernel) -> Result<fs::File> {
    let file = log_path(kernel);
    fs::create_dir_all(file.parent().unwrap_or(&file))?;
    fs::File::create(&file).with_context(|| format!("cannot write {}", file.display()))
}

fn log_path(kernel: &Kernel) -> PathBuf {
    let name = kernel.to_string().replace(':', "-");
    build::target().join("guests/logs").join(format!("{name}-{}.log", std::process::id()))
}

/// Says what came of a kernel: each step, and all that a failed one printed.
fn tell(tried: &Tried) {
    let report = match &tried.report {
        Ok(report) => report,
        Err(error) => {
            eprintln!("Linux {}: FAILED: {error:#}", tried.kernel);
            return;
        }
    };
    for step in &report.steps {
        if step.succeeded != Some(true) {
            eprintln!("{}", step.lines.join("\n"));
        }
        let verdict = match step.succeeded {
            Some(true) => "ok",
            Some(false) => "FAILED",
            None => "did not end",
        };
        eprintln!("Linux {} {}: {verdict}", tried.version, step.name);
    }
    let seconds = report.took.as_secs();
    eprintln!(
        "Linux {}: {seconds} s; all it said: {}",
        tried.version,
        log_path(&tried.kernel).display()
    );
}

/// Whether every kernel was good, and what the others are called.
pub fn failed(tried: &[Tried]) -> Vec<String> {
    tried.iter().filter(|tried| !tried.is_good()).map(|tried| tried.kernel.to_string()).collect()
}

/// What guests left out, a line each.
pub fn skipped(tried: &[Tried]) -> Vec<String> {
    let of = |tried: &Tried| {
        let report = tried.report.as_ref();
        let lines = report.map_or_else(|_| Vec::new(), |report| report.skipped.clone());
        let kernel = tried.kernel.to_string();
        lines.into_iter().map(move |line| format!("Linux {kernel}: {line}"))
    };
    tried.iter().flat_map(of).collect()
}
