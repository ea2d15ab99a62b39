//! The section `kernels` of the tests: the kernels of distributions, booted in an emulated machine, in
//! each of which the programs are loaded and, further, serve real traffic.

pub mod architecture;
mod catalogue;
pub mod debian;
mod guest;
mod machine;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow};

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
    /// What it calls itself.
    pub release: String,
    /// Whether the programs have a fault, which it must refuse.
    pub has_fault: bool,
    /// What it did, or why it did nothing.
    pub report: Result<Report>,
}

impl Tried {
    /// Whether it did what it should.
    pub fn is_good(&self) -> bool {
        if self.has_fault {
            return self.refuses_the_fault();
        }
        self.report.as_ref().is_ok_and(|report| report.is_good(&self.release))
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
    /// Whether kernels are tried as far as the table says.
    fn is_for_the_table(&self) -> bool {
        self.alone && self.depth.is_none() && self.filter.is_none() && !self.fault
    }

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

/// Boots each kernel and tries it; every line that passes is given to `read`, for its counts. What fails,
/// be it before a guest boots, is in what is returned.
///
/// # Errors
/// The table cannot be written.
pub fn run(choice: &Choice, read: impl FnMut(&str) + Send) -> Result<Vec<Tried>> {
    let wanted = choice.wanted();
    let bases = bases(&wanted, choice.fault);
    let read = Mutex::new(read);
    let hear = |line: &str| (read.lock().unwrap_or_else(PoisonError::into_inner))(line);
    // An emulated processor is one of ours while it works, and a guest's second one mostly waits.
    let at_a_time = thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let mut tried: Vec<(usize, Tried)> = thread::scope(|scope| {
        let work = || {
            let mut tried = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((kernel, depth)) = wanted.get(number) else { return tried };
                let base = bases.get(&kernel.architecture);
                tried.push((number, Tried::new(kernel, *depth, choice, base, &hear)));
            }
        };
        let workers: Vec<_> = (0..at_a_time).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined
            .flat_map(|tried| tried.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    tried.sort_by_key(|(number, _)| *number);
    let tried: Vec<Tried> = tried.into_iter().map(|(_, tried)| tried).collect();
    if choice.fault {
        let found = tried.iter().filter(|tried| tried.is_good()).count();
        hear(&format!("test result: ok. {found} passed; {} failed", tried.len() - found));
    } else if choice.is_for_the_table() {
        table::write(&tried)?;
    }
    Ok(tried)
}

/// What guests of each architecture run, or why that cannot be had.
fn bases(wanted: &[(Kernel, Depth)], has_fault: bool) -> BTreeMap<Architecture, Result<Base>> {
    let mut bases = BTreeMap::new();
    for (kernel, _) in wanted {
        let architecture = kernel.architecture;
        bases.entry(architecture).or_insert_with(|| Base::of(architecture, has_fault));
    }
    bases
}

impl Tried {
    /// Tries `kernel`, and says what came of it.
    fn new(
        kernel: &Kernel,
        depth: Depth,
        choice: &Choice,
        base: Option<&Result<Base>>,
        hear: &dyn Fn(&str),
    ) -> Self {
        let mut tried = Self {
            kernel: kernel.clone(),
            depth,
            version: String::new(),
            release: String::new(),
            has_fault: choice.fault,
            report: Ok(Report::default()),
        };
        tried.report = match base {
            Some(Ok(base)) => tried.boot(base, choice.filter.as_deref(), &mut |line| {
                // With the fault, what fails there is what is wanted, and counts as no failure.
                if !choice.fault {
                    hear(line);
                }
            }),
            Some(Err(error)) => Err(anyhow!("what guests run cannot be had: {error:#}")),
            None => Err(anyhow!("what guests run was not built")),
        };
        tell(&tried);
        tried
    }

    /// Boots the kernel and returns what came of it.
    fn boot(
        &mut self,
        base: &Base,
        filter: Option<&str>,
        read: &mut impl FnMut(&str),
    ) -> Result<Report> {
        let image = Image::of(&self.kernel)?;
        self.version.clone_from(&image.version);
        self.release = image.release()?;
        eprintln!("booting {}", image.version);
        let initrd = base.with(&image)?;
        let mut log = log(&self.kernel)?;
        let (architecture, how) = (self.kernel.architecture, (self.depth, filter));
        let report = machine::run(architecture, &image.kernel(), &initrd, how, |line| {
            // What cannot be logged is still judged.
            let _ = writeln!(log, "{line}");
            read(line);
        });
        // There are many of them, and all are removed in the end.
        let _ = fs::remove_file(initrd);
        report
    }
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
