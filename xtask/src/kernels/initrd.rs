//! The initial file system of a guest: Debian's programs, ours, and the kernel's modules.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::architecture::Architecture;
use super::debian::{BOOKWORM, Packages, WITH_KERNELS, remove};
use super::image::{Image, cache_lock};
use crate::build::{self, Tests};
use crate::cargo::target;
use crate::workspace::{cache_folder, root};

/// What labs, tests and the first process call, as Debian packages.
const PROGRAMS: [&str; 9] =
    ["coreutils", "curl", "dash", "ethtool", "findutils", "grep", "iproute2", "kmod", "mount"];

/// More of them, see above.
const MORE_PROGRAMS: [&str; 7] =
    ["iptables", "nftables", "procps", "sed", "util-linux", "gcc-12-base", "wireguard-tools"];

/// What packages are said to need, and a machine that lives for minutes does not.
const NEEDLESS: [&str; 12] = [
    "perl",
    "libperl",
    "dpkg",
    "debconf",
    "usrmerge",
    "tar",
    "lib-find",
    "libfile-find",
    "libtext-glob",
    "libnumber-compare",
    "libgdbm",
    "libdb5",
];

/// Whether there are packages for guests of `architecture`, newly fetched or from before.
///
/// # Errors
/// What is missing.
pub fn are_packages_available(architecture: Architecture) -> Result<()> {
    let _lock = cache_lock()?;
    Packages::of("kernels", WITH_KERNELS, architecture)?;
    Packages::of("programs", BOOKWORM, architecture).map(drop)
}

/// The part of the initial file system that all kernels of an architecture share. Its files go with it;
/// runs beside this one have their own.
pub struct Base {
    archive: PathBuf,
    folder: PathBuf,
    modules: String,
}

impl Drop for Base {
    fn drop(&mut self) {
        // What is left is in the folder of builds.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Base {
    /// Debian's programs and the tests, in an archive below the folder of builds.
    pub fn of(architecture: Architecture, has_fault: bool) -> Result<Self> {
        let run = format!("{architecture}-{}", std::process::id());
        let folder = target().join("guests").join(run);
        fs::create_dir_all(&folder)?;
        let guest = root().join("tests/guest");
        let modules = fs::read_to_string(guest.join("modules"))?;
        let base = Self { archive: folder.join("base.cpio"), folder, modules };
        let tests = build::tests_for(architecture, has_fault)?;
        let userland = cache_lock().and_then(|_lock| userland(architecture))?;
        let own = base.folder.join("own");
        let Tests { agent, lab, kernel, end_to_end } = &tests;
        for (from, name) in
            [(agent, "weir"), (lab, "lab"), (kernel, "kernel"), (end_to_end, "end_to_end")]
        {
            copy(from, &own.join("weir").join(name))?;
        }
        copy(&guest.join("init"), &own.join("init"))?;
        copy(&guest.join("modules"), &own.join("weir/modules"))?;
        for empty in ["proc", "sys", "dev", "run", "tmp", "root"] {
            fs::create_dir_all(own.join(empty))?;
        }
        pack(&[&userland, &own], &base.archive)?;
        Ok(base)
    }

    /// The whole initial file system for `image`. Archives that follow each other are unpacked one
    /// over the other (Documentation/driver-api/early-userspace/buffer-format.rst).
    pub fn with(&self, image: &Image) -> Result<PathBuf> {
        let folder = self.folder.join(format!("modules-{}", image.version));
        remove(&folder)?;
        image.modules(&self.modules, &folder)?;
        let modules = folder.with_added_extension("cpio");
        pack(&[&folder], &modules)?;
        let whole = self.folder.join(format!("initrd-{}", image.version));
        let mut file = File::create(&whole)?;
        for part in [&self.archive, &modules] {
            std::io::copy(&mut File::open(part)?, &mut file)?;
        }
        file.flush()?;
        Ok(whole)
    }
}

/// Debian's programs, unpacked in our cache.
fn userland(architecture: Architecture) -> Result<PathBuf> {
    let packages = Packages::of("programs", BOOKWORM, architecture)?;
    let is_needless = |name: &str| NEEDLESS.iter().any(|needless| name.starts_with(needless));
    let wanted = packages.closure(&[&PROGRAMS[..], &MORE_PROGRAMS].concat(), is_needless)?;
    let folder = cache_folder().join("debian").join(format!("userland-{architecture}"));
    let list = wanted.join("\n");
    let stamp = folder.with_extension("packages");
    if fs::read_to_string(&stamp).is_ok_and(|kept| kept == list) {
        return Ok(folder);
    }
    // Without its list it is not taken for whole.
    match fs::remove_file(&stamp) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    remove(&folder)?;
    fs::create_dir_all(&folder)?;
    packages.unpack(&wanted, &folder)?;
    for needless in ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"] {
        let needless = folder.join(needless);
        if needless.exists() {
            fs::remove_dir_all(needless)?;
        }
    }
    std::os::unix::fs::symlink("dash", folder.join("bin/sh")).or_else(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
    })?;
    fs::write(stamp, list)?;
    Ok(folder)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    let mode = fs::metadata(from)?.permissions().mode();
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

/// Packs what is in `folders` into an archive that the kernel unpacks; all of it root's.
fn pack(folders: &[&Path], archive: &Path) -> Result<()> {
    let mut file = File::create(archive)?;
    for folder in folders {
        let mut find = Command::new("find")
            .current_dir(folder)
            .args([".", "-mindepth", "1", "-print0"])
            .stdout(Stdio::piped())
            .spawn()?;
        let names = find.stdout.take().context("`find` has no output")?;
        let packed = Command::new("cpio")
            .current_dir(folder)
            .args(["--create", "--format=newc", "--null", "--quiet", "--owner=+0:+0"])
            .stdin(names)
            .stdout(file.try_clone()?)
            .status()?;
        ensure!(find.wait()?.success() && packed.success(), "cannot pack {}", folder.display());
    }
    Ok(file.flush()?)
}
