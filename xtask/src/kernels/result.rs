//! One kernel, booted: what it did.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};

use super::catalogue::{Depth, Kernel};
use super::image::Image;
use super::initrd::Base;
use super::machine::{self, Report, Step};
use crate::cargo::target;

/// The result of one kernel.
pub struct KernelResult {
    /// Which one was asked for.
    pub kernel: Kernel,
    /// How far it was to be result.
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

impl KernelResult {
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

    /// Boots `kernel`, runs the tests whose name contains the filter there, and prints the result.
    pub fn of(
        kernel: &Kernel,
        depth: Depth,
        (filter, has_fault): (Option<&str>, bool),
        base: Option<&Result<Base>>,
        read: &dyn Fn(&str),
    ) -> Self {
        let mut result = Self {
            kernel: kernel.clone(),
            depth,
            version: String::new(),
            release: String::new(),
            has_fault,
            report: Ok(Report::default()),
        };
        result.report = match base {
            Some(Ok(base)) => result.boot(base, filter, &mut |line| {
                // With the fault, what fails there is what is wanted, and counts as no failure.
                if !has_fault {
                    read(line);
                }
            }),
            Some(Err(error)) => Err(anyhow!("what guests run cannot be built: {error:#}")),
            None => Err(anyhow!("what guests run was not built")),
        };
        print(&result);
        result
    }

    /// Boots the kernel and returns what the guest did.
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
    target().join("guests/logs").join(format!("{name}-{}.log", std::process::id()))
}

/// Prints the result of a kernel: each step, and all that a failed one printed.
fn print(result: &KernelResult) {
    let report = match &result.report {
        Ok(report) => report,
        Err(error) => {
            eprintln!("Linux {}: FAILED: {error:#}", result.kernel);
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
        eprintln!("Linux {} {}: {verdict}", result.version, step.name);
    }
    let seconds = report.took.as_secs();
    eprintln!(
        "Linux {}: {seconds} s; all it said: {}",
        result.version,
        log_path(&result.kernel).display()
    );
}
