//! What a privileged test needs. A test may be skipped only where its user or kernel cannot run it,
//! and never under `CI`; `cargo xtask test` lists what was skipped.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use aya::util::KernelVersion;
use lb_userspace::datapath::attach::Tc;

use crate::control_plane::Programs;
use crate::control_plane::proxy::Proxy;
use crate::lab::{Lab, Shape};

/// A lab for the calling test, or `None` where this user may not make one: the test is then skipped.
///
/// # Errors
/// If the lab cannot be made although it should be.
///
/// # Panics
/// Instead of skipping where the variable `CI` is set.
pub fn lab(shape: Shape) -> Result<Option<Lab>> {
    if nix::unistd::geteuid().is_root() {
        return Lab::new(shape).map(Some);
    }
    skip("needs root: run `cargo xtask test` as root");
    Ok(None)
}

/// The agent whose maps have another layout; `None` where it was not built: the test is then skipped.
///
/// # Panics
/// Instead of skipping where the variable `CI` is set.
#[must_use]
pub fn other_layout() -> Option<PathBuf> {
    let named = std::env::var_os("WEIR_OTHER_BIN").map(PathBuf::from);
    if named.is_none() {
        skip("needs an agent of another layout: run it on this machine, by `cargo xtask test`");
    }
    named
}

/// A lab for the calling test and Kubernetes' programs, with kube-proxy among them if that is the
/// `proxy` to test; `None` where one of them is not to be had: the test is then skipped.
///
/// # Errors
/// If the lab cannot be made although it should be.
///
/// # Panics
/// Instead of skipping where the variable `CI` is set.
pub fn control_plane(proxy: Proxy, shape: Shape) -> Result<Option<(Lab, Programs)>> {
    let enough = |programs: &Programs| proxy == Proxy::Weir || programs.have_kube_proxy();
    let Some(programs) = Programs::find().filter(enough) else {
        skip(
            "needs etcd, kube-apiserver, kube-controller-manager and kube-proxy: install Go and run \
             `cargo xtask test`, or name their folder in KUBEBUILDER_ASSETS",
        );
        return Ok(None);
    };
    Ok(lab(shape)?.map(|lab| (lab, programs)))
}

/// Whether this kernel has links at TC, which came with Linux 6.6
/// (<https://git.kernel.org/torvalds/c/e420bed02507>). What is about links alone cannot be tested on an
/// older one; on a newer one it must be.
///
/// # Errors
/// If a kernel that is new enough has none, or its version cannot be read.
pub fn links_at_tc() -> Result<bool> {
    let has = Tc::of_this_kernel() == Tc::Tcx;
    let version = KernelVersion::current()?;
    ensure!(has || version < KernelVersion::new(6, 6, 0), "Linux {version:?} without links at TC");
    Ok(has)
}

/// Notes that the calling test is skipped, and why: a clause that says what to do.
///
/// # Panics
/// Instead of skipping where the variable `CI` is set.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    // The test runner names a test's thread after the test.
    let line = format!("{} {why}", thread.name().unwrap_or("a test"));
    assert!(std::env::var_os("CI").is_none(), "{line}");
    if let Some(file) = std::env::var_os("WEIR_SKIPPED")
        && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(file)
    {
        let _ = writeln!(file, "{line}");
    }
}
