//! The kernels that guests boot, out of Debian's packages, and their modules.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::catalogue::{Kernel, order};
use super::debian::{Packages, WITH_KERNELS, remove};
use crate::command::output_of;
use crate::workspace::cache_folder;

/// A kernel in our cache.
pub struct Image {
    /// Debian's version of it.
    pub version: String,
    folder: PathBuf,
}

impl Image {
    /// The newest of `kernel`'s versions that Debian's packages have, fetched unless it is here. Without
    /// packages, the newest that is here.
    pub fn of(kernel: &Kernel) -> Result<Self> {
        let _lock = cache_lock()?;
        let cache = cache_folder().join("kernels").join(kernel.architecture.debian());
        match packaged(kernel) {
            Ok((packages, version, names)) => {
                let folder = cache.join(&version);
                if !folder.join("vmlinuz").exists() {
                    fetch(&packages, &names, &folder)?;
                }
                Ok(Self { version, folder })
            }
            Err(error) => match newest_here(&cache, kernel) {
                Some(version) => {
                    eprintln!("{error:#}: taking Linux {version}, which was fetched before");
                    Ok(Self { folder: cache.join(&version), version })
                }
                None => Err(error),
            },
        }
    }

    /// The kernel itself.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// What the kernel calls itself.
    pub fn release(&self) -> Result<String> {
        only_entry(&self.folder.join("modules/lib/modules"))
    }

    /// The modules in `wanted` and those that they need, as an archive; those that this kernel has not
    /// are left out.
    pub fn modules(&self, wanted: &str, into: &Path) -> Result<()> {
        let all = self.folder.join("modules");
        let release = self.release()?;
        let mut files = BTreeSet::new();
        for module in wanted.lines() {
            let needed = output_of(
                Command::new("modprobe").args(["--show-depends", "--dirname"]).arg(&all).args([
                    "--set-version",
                    &release,
                    module,
                ]),
            );
            let lines = needed.unwrap_or_default();
            files.extend(lines.lines().filter_map(|line| {
                Some(PathBuf::from(line.strip_prefix("insmod ")?.split(' ').next()?))
            }));
        }
        for file in files {
            let to = into.join(file.strip_prefix(&all)?);
            fs::create_dir_all(to.parent().unwrap_or(into))?;
            fs::copy(&file, &to).with_context(|| format!("cannot copy {}", file.display()))?;
        }
        for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
            let below = Path::new("lib/modules").join(&release).join(list);
            if all.join(&below).exists() {
                fs::create_dir_all(into.join("lib/modules").join(&release))?;
                fs::copy(all.join(&below), into.join(&below))?;
            }
        }
        depmod(into, &release)
    }
}

/// Held while the cache is written to: other runs have the same.
pub fn cache_lock() -> Result<File> {
    let path = cache_folder().join("kernels.lock");
    fs::create_dir_all(cache_folder())?;
    let lock = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    lock.lock().context("cannot wait for another run")?;
    Ok(lock)
}

/// The packages that hold the newest of `kernel`'s versions, and that version.
fn packaged(kernel: &Kernel) -> Result<(Packages, String, Vec<String>)> {
    let packages = Packages::of("kernels", WITH_KERNELS, kernel.architecture)?;
    let suffix = format!("-cloud-{}", kernel.architecture);
    let is_kernel = |name: &str| {
        let rest = name.strip_prefix("linux-image-").and_then(|rest| rest.strip_suffix(&suffix));
        // The numberless ones are names for whatever is newest.
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.len() > 5)
    };
    let versions = packages.versions(is_kernel)?;
    let newest = versions
        .iter()
        .filter(|(_, version)| kernel.has(version))
        .max_by_key(|(_, version)| order(version));
    let Some((image, version)) = newest else {
        bail!(
            "Debian's packages hold no Linux {kernel} any more: name another in \
             xtask/src/kernels/catalogue.rs, or with --kernel"
        );
    };
    // From 6.19 on the files are in packages that the first only needs.
    let stem = image.trim_start_matches("linux-image-");
    let parts = ["linux-binary-", "linux-modules-"].map(|part| format!("{part}{stem}"));
    let there = packages.versions(|name| parts.iter().any(|part| part == name))?;
    let names = std::iter::once(image.clone()).chain(there.into_keys()).collect();
    Ok((packages, version.clone(), names))
}

fn fetch(packages: &Packages, names: &[String], folder: &Path) -> Result<()> {
    let mut unpacking = folder.as_os_str().to_owned();
    unpacking.push(format!(".{}.new", std::process::id()));
    let unpacking = PathBuf::from(unpacking);
    remove(&unpacking)?;
    fs::create_dir_all(&unpacking)?;
    packages.unpack(names, &unpacking)?;
    let modules = ["usr/lib/modules", "lib/modules"].map(|below| unpacking.join(below));
    let modules = modules.into_iter().find(|folder| folder.is_dir());
    let modules = modules.with_context(|| format!("{} hold no modules", names.join(" ")))?;
    // From 7.2 on the kernel lies with its modules.
    let beside = modules.join(only_entry(&modules)?);
    let kernel = [unpacking.join("boot"), beside].iter().find_map(|folder| kernel_in(folder));
    let kernel = kernel.with_context(|| format!("{} hold no kernel", names.join(" ")))?;
    fs::rename(kernel, unpacking.join("vmlinuz"))?;
    fs::create_dir_all(unpacking.join("modules/lib"))?;
    fs::rename(modules, unpacking.join("modules/lib/modules"))?;
    depmod(&unpacking.join("modules"), &only_entry(&unpacking.join("modules/lib/modules"))?)?;
    for needless in ["usr", "lib", "boot"] {
        remove(&unpacking.join(needless))?;
    }
    remove(folder)?;
    fs::rename(&unpacking, folder).with_context(|| format!("cannot write {}", folder.display()))
}

/// The kernel in `folder`, compressed or not.
fn kernel_in(folder: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    entries.find(|path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"vmlinu"))
    })
}

fn depmod(root: &Path, release: &str) -> Result<()> {
    let status = Command::new("depmod").arg("--basedir").arg(root).arg(release).status()?;
    ensure!(status.success(), "`depmod` of {release} failed ({status})");
    Ok(())
}

fn only_entry(folder: &Path) -> Result<String> {
    let mut entries = fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let first = entries.next();
    first.with_context(|| format!("{} is empty", folder.display()))
}

fn newest_here(cache: &Path, kernel: &Kernel) -> Option<String> {
    let entries = fs::read_dir(cache).ok()?;
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|version| kernel.has(version) && !version.ends_with(".new"))
        .max_by_key(|version| order(version))
}
