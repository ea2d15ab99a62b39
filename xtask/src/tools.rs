//! Programs that the lab, guests and kube-proxy call: found, or installed as Debian packages.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::run;

/// Makes sure that what the lab calls is there, and what its tests put into a node's way.
pub fn for_the_lab() -> Result<()> {
    const PROGRAMS: [(&str, &str); 7] = [
        ("ip", "iproute2"),
        ("ethtool", "ethtool"),
        ("nsenter", "util-linux"),
        ("curl", "curl"),
        ("sysctl", "procps"),
        ("nft", "nftables"),
        ("iptables", "iptables"),
    ];
    install_missing(&PROGRAMS)
}

/// Makes sure that what boots guests is there: the emulator, a program and its package, and what
/// their file systems are made with.
pub fn for_guests(emulator: (&str, &str)) -> Result<()> {
    install_missing(&[
        emulator,
        ("cpio", "cpio"),
        ("depmod", "kmod"),
        ("find", "findutils"),
        ("setpriv", "util-linux"),
    ])
}

/// Makes sure that what kube-proxy calls is there.
pub fn for_kube_proxy() -> Result<()> {
    install_missing(&[("nft", "nftables"), ("iptables", "iptables"), ("conntrack", "conntrack")])
}

/// Installs the packages of those programs that are not there.
fn install_missing(programs: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| on_path(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install_packages(&missing)
}

/// Installs Debian packages; where the lists of packages are missing or old they are fetched first.
pub fn install_packages(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if on_path("apt-get").is_none() {
        bail!(
            "this machine lacks what the Debian packages {names} hold, and has no apt-get. \
             Install them with its package manager, then try again."
        );
    }
    eprintln!("Installing {names}.");
    let next = format!("Run it as root, or install {names} by hand, then try again.");
    if run(apt_get("install").args(packages), &next).is_ok() {
        return Ok(());
    }
    run(&mut apt_get("update"), "Check /etc/apt/sources.list and the network.")?;
    run(apt_get("install").args(packages), &next)
}

fn apt_get(verb: &str) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["-q", "-y", "-o", "DPkg::Lock::Timeout=300", verb])
        .env("DEBIAN_FRONTEND", "noninteractive");
    if verb == "install" {
        command.arg("--no-install-recommends");
    }
    command
}

/// The file that `program` names on the PATH or among the system's own programs.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
