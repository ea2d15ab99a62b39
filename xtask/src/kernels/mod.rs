//! The section `kernels` of the tests: the kernels of distributions, booted in an emulated machine, in
//! each of which the programs are loaded and, further, serve real traffic.

pub mod architecture;
mod catalogue;
pub mod debian;
mod image;
mod initrd;
mod machine;
mod result;
mod table;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;

use crate::tools;
use architecture::Architecture;
use catalogue::CLAIMS;
pub use catalogue::{Depth, Kernel};
use initrd::Base;
use result::KernelResult;

/// Which kernels, and how far.
#[derive(Clone, Default)]
pub struct Choice {
    /// The kernels asked for; without any, those that are claimed.
    pub kernels: Vec<Kernel>,
    /// How far; without it as far as the catalogue says.
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
        let of_catalogue = |always: Option<Depth>| if self.alone { Some(depth) } else { always };
        CLAIMS
            .iter()
            .filter_map(|claim| Some((claim.kernel(), of_catalogue(claim.always)?)))
            .collect()
    }
}

/// What this machine lacks to boot others; the section is then skipped.
pub fn missing(choice: &Choice) -> Option<String> {
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
            .and_then(|()| initrd::are_packages_available(architecture))
            .err()?;
        Some(format!("needs Debian's packages: {error:#}"))
    })
}

/// Boots each kernel and tries it; every line that passes is given to `read`, for its counts. What fails,
/// be it before a guest boots, is in what is returned.
///
/// # Errors
/// The table cannot be written.
pub fn run(choice: &Choice, read: impl FnMut(&str) + Send) -> Result<Vec<KernelResult>> {
    let wanted = choice.wanted();
    let bases = bases(&wanted, choice.fault);
    let how = (choice.filter.as_deref(), choice.fault);
    let read = Mutex::new(read);
    let read_line = |line: &str| (read.lock().unwrap_or_else(PoisonError::into_inner))(line);
    // An emulated processor is one of ours while it works, and a guest's second one mostly waits.
    let at_a_time = thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let mut tried: Vec<(usize, KernelResult)> = thread::scope(|scope| {
        let work = || {
            let mut tried = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((kernel, depth)) = wanted.get(number) else { return tried };
                let base = bases.get(&kernel.architecture);
                tried.push((number, KernelResult::of(kernel, *depth, how, base, &read_line)));
            }
        };
        let workers: Vec<_> = (0..at_a_time).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined
            .flat_map(|tried| tried.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    tried.sort_by_key(|(number, _)| *number);
    let tried: Vec<KernelResult> = tried.into_iter().map(|(_, tried)| tried).collect();
    if choice.fault {
        let found = tried.iter().filter(|tried| tried.is_good()).count();
        read_line(&format!("test result: ok. {found} passed; {} failed", tried.len() - found));
    } else if choice.is_for_the_table() {
        table::write(&tried)?;
    }
    Ok(tried)
}

/// What guests of each architecture run, or why it cannot be built.
fn bases(wanted: &[(Kernel, Depth)], has_fault: bool) -> BTreeMap<Architecture, Result<Base>> {
    let mut bases = BTreeMap::new();
    for (kernel, _) in wanted {
        let architecture = kernel.architecture;
        bases.entry(architecture).or_insert_with(|| Base::of(architecture, has_fault));
    }
    bases
}

/// Whether every kernel was good, and what the others are called.
pub fn failed(tried: &[KernelResult]) -> Vec<String> {
    tried.iter().filter(|tried| !tried.is_good()).map(|tried| tried.kernel.to_string()).collect()
}

/// What guests left out, a line each.
pub fn skipped(tried: &[KernelResult]) -> Vec<String> {
    let of = |tried: &KernelResult| {
        let report = tried.report.as_ref();
        let lines = report.map_or_else(|_| Vec::new(), |report| report.skipped.clone());
        let kernel = tried.kernel.to_string();
        lines.into_iter().map(move |line| format!("Linux {kernel}: {line}"))
    };
    tried.iter().flat_map(of).collect()
}
