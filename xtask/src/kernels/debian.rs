//! Debian's packages without installing any: lists, sources and downloads are in a folder of our own,
//! so that other releases and architectures than the machine's can be read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::architecture::Architecture;
use crate::command::{output_of, run};
use crate::workspace::cache_folder;

/// The variable that names a mirror of Debian where apt on this machine knows none.
const MIRROR: &str = "WEIR_DEBIAN_MIRROR";

/// How old lists of packages may be before they are fetched anew.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// Releases of Debian in which kernels are found: all that are still on mirrors.
pub const WITH_KERNELS: &[&str] = &[
    "bullseye",
    "bullseye-security",
    "bookworm",
    "bookworm-security",
    "bookworm-backports",
    "trixie",
    "trixie-security",
    "trixie-backports",
    "sid",
    "experimental",
];

/// Debian 12, which guests run.
pub const BOOKWORM: &[&str] = &["bookworm", "bookworm-security"];

/// Packages of some releases for one architecture.
pub struct Packages {
    folder: PathBuf,
}

impl Packages {
    /// Those of `releases`, with lists not older than a day; older ones do where no newer are had.
    ///
    /// # Errors
    /// What to do where there are none.
    pub fn of(name: &str, releases: &[&str], architecture: Architecture) -> Result<Self> {
        let folder = cache_folder().join("debian").join(format!("{name}-{architecture}"));
        for below in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(below))
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let packages = Self { folder };
        if packages.are_fresh() {
            return Ok(packages);
        }
        let sources = sources(releases)?;
        let write = |name: &str, text: String| fs::write(packages.folder.join(name), text);
        write("sources.list", sources)?;
        write("apt.conf", packages.settings(architecture))?;
        let updated = run(
            packages.apt_get().args(["-q", "update", "--error-on=any"]),
            "Check the network, or name a mirror of Debian in WEIR_DEBIAN_MIRROR.",
        );
        match updated {
            Ok(()) => fs::write(packages.stamp(), "")?,
            // One release may have left the mirror, and the others do.
            Err(error) if packages.has_lists()? => {
                eprintln!("{error:#} Going on with the lists of packages there are.");
            }
            Err(error) => return Err(error),
        }
        Ok(packages)
    }

    fn has_lists(&self) -> Result<bool> {
        let mut lists = fs::read_dir(self.folder.join("lists"))?.filter_map(Result::ok);
        Ok(lists.any(|entry| entry.file_name().as_encoded_bytes().ends_with(b"_Packages")))
    }

    fn stamp(&self) -> PathBuf {
        self.folder.join("updated")
    }

    fn are_fresh(&self) -> bool {
        let changed = fs::metadata(self.stamp()).and_then(|stamp| stamp.modified());
        changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < FRESH))
    }

    /// apt's configuration: nothing of the machine's own is read or written.
    fn settings(&self, architecture: Architecture) -> String {
        let folder = self.folder.display();
        format!(
            "APT::Architecture \"{architecture}\";
             APT::Architectures {{ \"{architecture}\"; }};
             APT::Install-Recommends \"false\";
             APT::Sandbox::User \"root\";
             Acquire::Languages \"none\";
             Acquire::Retries \"3\";
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";
             Dir::Etc::sourcelist \"{folder}/sources.list\";
             Dir::Etc::sourceparts \"/dev/null\";
             Dir::State::lists \"{folder}/lists\";
             Dir::State::status \"/dev/null\";
             Dir::State::extended_states \"/dev/null\";
             Dir::Cache \"{folder}/cache\";
             Debug::NoLocking \"true\";\n"
        )
    }

    fn apt_get(&self) -> Command {
        self.command("apt-get")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.folder.join("apt.conf"));
        command
    }

    /// The newest version of each package whose name `is_wanted`.
    pub fn versions(&self, is_wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, String>> {
        let text = output_of(self.command("apt-cache").arg("dumpavail"))
            .context("`apt-cache dumpavail` fails: is apt installed?")?;
        let mut versions = BTreeMap::new();
        let mut name = "";
        for line in text.lines() {
            if let Some(package) = line.strip_prefix("Package: ") {
                name = package;
            } else if let Some(version) = line.strip_prefix("Version: ")
                && is_wanted(name)
            {
                versions.insert(name.to_owned(), version.to_owned());
            }
        }
        Ok(versions)
    }

    /// `names` and all that they need, but for the packages that `is_needless` names.
    pub fn closure(
        &self,
        names: &[&str],
        is_needless: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>> {
        let printed =
            output_of(self.apt_get().args(["-qq", "--print-uris", "install"]).args(names))
                .with_context(|| format!("apt cannot resolve {}", names.join(" ")))?;
        // 'URI' NAME_VERSION_ARCHITECTURE.deb SIZE SUM
        let files = printed.lines().filter_map(|line| line.split(' ').nth(1));
        let mut found: Vec<String> = files
            .filter_map(|file| {
                let mut parts = file.split('_');
                let (name, version) = (parts.next()?, parts.next()?);
                let version = version.replace("%3a", ":");
                (!is_needless(name)).then(|| format!("{name}={version}"))
            })
            .collect();
        found.sort();
        Ok(found)
    }

    /// Fetches `packages`, each a name or `NAME=VERSION`, and unpacks them into `into`.
    pub fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        // What an interrupted run has left must not be taken for ours.
        let downloads = self.folder.join(format!("downloads-{}", std::process::id()));
        remove(&downloads)?;
        fs::create_dir_all(&downloads)?;
        let unpacked = self.unpack_by_way_of(&downloads, packages, into);
        remove(&downloads)?;
        unpacked
    }

    fn unpack_by_way_of(&self, downloads: &Path, packages: &[String], into: &Path) -> Result<()> {
        run(
            self.apt_get().current_dir(downloads).args(["-q", "download"]).args(packages),
            "Check the network.",
        )?;
        for entry in fs::read_dir(downloads)? {
            let file = entry?.path();
            let unpacked = Command::new("dpkg").arg("-x").arg(&file).arg(into).status()?;
            ensure!(unpacked.success(), "`dpkg -x {}` failed ({unpacked})", file.display());
        }
        Ok(())
    }
}

/// Removes a folder that need not be there.
pub fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The lines of a list of sources: the mirror that apt on this machine has for Debian, or the one that
/// is named.
fn sources(releases: &[&str]) -> Result<String> {
    let (debian, security) = mirrors()?;
    let line = |release: &&str| {
        // Security updates have a folder of their own on mirrors.
        let mirror = if release.ends_with("-security") { &security } else { &debian };
        format!("deb {mirror} {release} main\n")
    };
    Ok(releases.iter().map(line).collect())
}

fn mirrors() -> Result<(String, String)> {
    if let Ok(mirror) = std::env::var(MIRROR) {
        let mirror = mirror.trim_end_matches('/');
        return Ok((mirror.to_owned(), format!("{mirror}-security")));
    }
    let format = "$(REPO_URI) $(LABEL) $(CREATED_BY)";
    let targets = output_of(Command::new("apt-get").args(["indextargets", "--format", format]));
    let targets = targets.context("no `apt-get` here, which fetches Debian's kernels")?;
    let labelled = |label: &str| {
        let mut lines = targets.lines();
        lines.find_map(|line| Some(line.strip_suffix(" Packages")?.strip_suffix(label)?.trim_end()))
    };
    let Some(debian) = labelled(" Debian") else {
        bail!("apt knows no mirror of Debian here: run `apt-get update`, or name one in {MIRROR}");
    };
    let debian = debian.trim_end_matches('/');
    let security = labelled(" Debian-Security").map(|uri| uri.trim_end_matches('/').to_owned());
    Ok((debian.to_owned(), security.unwrap_or_else(|| format!("{debian}-security"))))
}
