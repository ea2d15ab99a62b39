//! The directory of pins: `<bpffs>/weir/v<version>[-<generation>]/maps/<NAME>`, `links/<interface index>-<attach
//! point>` and `links/cgroup-<program>`; and while maps are resized `resized/<NAME>`. The version is the layout's; bpffs
//! allows no dots in names.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::maps::{MapData, MapInfo};
use lb_common::maps::{self, Capacities};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use tracing::warn;

use super::error::PinError;
use super::layout::Layout;
use super::shape::Shape;
use crate::host::syscall;

/// The directory of one layout version on one BPF file system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pins {
    pub(super) directory: PathBuf,
    /// The folder of maps: [`MAPS`] or [`RESIZED`].
    pub(super) folder: &'static str,
    /// The layout of the maps, if it is not this build's.
    pub(super) other: Option<Arc<Layout>>,
}

/// The folder of the maps in use.
pub(super) const MAPS: &str = "maps";

/// The folder of the maps that are to take their place.
pub(super) const RESIZED: &str = "resized";

/// An empty folder, for the moment in which it is tried whether folders can be exchanged.
pub(super) const TRIAL: &str = "trial";

impl Pins {
    /// The pins in `directory`, which is `<bpffs>/weir/v<version>`. Nothing is read or made.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.into(), folder: MAPS, other: None }
    }

    /// Makes the directory of all pins, unless it exists.
    ///
    /// # Errors
    /// [`PinError::NotBpffs`], [`PinError::File`]
    pub fn create_home(&self) -> Result<(), PinError> {
        self.create_directories(&[self.home().into()])
    }

    /// Makes the directories, unless they exist.
    ///
    /// # Errors
    /// [`PinError::NotBpffs`], [`PinError::File`]
    pub fn create(&self) -> Result<(), PinError> {
        self.create_directories(&[self.maps(), self.links()])
    }

    fn create_directories(&self, directories: &[PathBuf]) -> Result<(), PinError> {
        let existing = self.directory.ancestors().find(|path| path.exists());
        if !existing.is_some_and(is_bpffs) {
            return Err(PinError::NotBpffs(self.bpffs().into()));
        }
        for directory in directories {
            fs::create_dir_all(directory).map_err(|error| PinError::file(directory, error))?;
        }
        Ok(())
    }

    /// Locks what is pinned, by the directory `<bpffs>/weir`, which must exist: whoever sees these pins sees the lock, from
    /// whatever container.
    ///
    /// # Errors
    /// [`PinError::Locked`], [`PinError::File`]
    pub fn lock(&self) -> Result<Flock<File>, PinError> {
        let home = self.home();
        let directory = File::open(home).map_err(|error| PinError::file(home, error))?;
        Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
            if error == Errno::EWOULDBLOCK {
                PinError::Locked(home.into())
            } else {
                PinError::file(home, error.into())
            }
        })
    }

    /// Whether anything was ever pinned here.
    #[must_use]
    pub fn exist(&self) -> bool {
        self.home().exists()
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The maps in use, which must be there and of this build's layout.
    ///
    /// # Errors
    /// [`PinError::Nothing`], [`PinError::OtherVersion`], [`PinError::File`]
    pub fn require(&self) -> Result<Self, PinError> {
        let newest = self.newest()?;
        if entries(&newest.maps())?.is_empty() {
            return Err(PinError::Nothing(self.directory.clone()));
        }
        Ok(newest)
    }

    /// Compares what is pinned with what this build wants, and touches nothing.
    ///
    /// # Errors
    /// [`PinError::OtherMap`], [`PinError::Map`]
    pub fn compare(&self, capacities: &Capacities) -> Result<(), PinError> {
        for map in maps::pinned() {
            let Some(there) = self.shape(map)? else {
                continue;
            };
            let wanted = Shape::wanted(map, capacities);
            if there != wanted {
                return Err(PinError::OtherMap {
                    name: map.name,
                    path: self.map(map),
                    there,
                    wanted,
                    next: there.next_step(&wanted, map.capacity),
                });
            }
        }
        Ok(())
    }

    /// What the pinned map looks like; `None` if there is none.
    ///
    /// # Errors
    /// [`PinError::Map`]
    pub fn shape(&self, map: &maps::Map) -> Result<Option<Shape>, PinError> {
        let path = self.map(map);
        if !path.exists() {
            return Ok(None);
        }
        match MapInfo::from_pin(&path) {
            Ok(info) => Ok(Some(Shape::of(&info))),
            Err(error) => Err(PinError::Map { path, error }),
        }
    }

    /// Bytes of the kernel's memory that the pinned map takes; `None` if /proc does not say.
    #[must_use]
    pub fn memory(&self, map: &maps::Map) -> Option<u64> {
        // By its pin: to open it by its id takes CAP_SYS_ADMIN, which an agent's container has not.
        let map = MapData::from_pin(self.map(map)).ok()?;
        let number = map.fd().as_fd().as_raw_fd();
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("memlock:"))?;
        line.trim().parse().ok()
    }

    /// The pin of `map`.
    #[must_use]
    pub fn map(&self, map: &maps::Map) -> PathBuf {
        self.maps().join(map.name)
    }

    /// Removes every pin of every version, links first; returns what was removed.
    ///
    /// # Errors
    /// [`PinError::File`]; what was removed before stays removed.
    pub fn remove_all(&self) -> Result<Vec<PathBuf>, PinError> {
        let mut removed = Vec::new();
        for version in self.versions()? {
            for folder in ["links", MAPS, RESIZED, TRIAL] {
                let folder = version.join(folder);
                for pin in entries(&folder)? {
                    if is_link(&pin) {
                        detach(&pin);
                    }
                    fs::remove_file(&pin).map_err(|error| PinError::file(&pin, error))?;
                    removed.push(pin);
                }
                remove_directory(&folder)?;
            }
            remove_directory(&version)?;
        }
        remove_directory(self.home())?;
        Ok(removed)
    }

    /// `<bpffs>/weir/v*`
    pub(super) fn versions(&self) -> Result<Vec<PathBuf>, PinError> {
        let mut versions = entries(self.home())?;
        versions.retain(|path| generation(path).is_some());
        Ok(versions)
    }

    /// The directory given as `--bpffs`.
    #[must_use]
    pub fn bpffs(&self) -> &Path {
        self.home().parent().unwrap_or(&self.directory)
    }

    /// `<bpffs>/weir`
    pub(super) fn home(&self) -> &Path {
        self.directory.parent().unwrap_or(&self.directory)
    }

    pub(super) fn maps(&self) -> PathBuf {
        self.directory.join(self.folder)
    }

    pub(super) fn links(&self) -> PathBuf {
        self.directory.join("links")
    }
}

/// The generation in the name of a directory of pins; `None` if that is no such directory.
pub(super) fn generation(directory: &Path) -> Option<u32> {
    let name = directory.file_name()?.to_str()?.strip_prefix('v')?;
    let (version, generation) = name.split_once('-').unwrap_or((name, "0"));
    version.parse::<u32>().ok()?;
    generation.parse().ok()
}

/// Detaches a link whose pin is about to be removed. Without that, too, it goes, when a kernel thread gets to it.
fn detach(pin: &Path) {
    let Err(error) = syscall::detach_pinned_link(pin) else { return };
    // Else its device is gone, and with it what was attached.
    if error.raw_os_error() != Some(libc::ENOLINK) {
        warn!("{} could not be detached at once, and goes with its pin: {error}", pin.display());
    }
}

/// Whether a removed pin was a link's.
#[must_use]
pub fn is_link(pin: &Path) -> bool {
    pin.parent().is_some_and(|folder| folder.ends_with("links"))
}

/// Whether `path` is on a BPF file system.
#[must_use]
pub fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// What a directory holds, sorted; nothing if it does not exist.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, PinError> {
    let found = match fs::read_dir(directory) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(PinError::file(directory, error)),
    };
    let mut paths = found
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| PinError::file(directory, error))?;
    paths.sort();
    Ok(paths)
}

pub(super) fn remove_directory(directory: &Path) -> Result<(), PinError> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PinError::file(directory, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_elsewhere_is_refused_with_the_command_that_mounts_one() {
        let directory = tempfile::tempdir().unwrap();
        let error = Pins::at(&directory.path().join("weir/v1")).create().unwrap_err();
        assert!(error.to_string().contains("mount -t bpf"), "{error}");
        assert!(!directory.path().join("weir").exists());
    }

    #[test]
    fn pins_of_every_version_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        for other in ["weir/v999999", "weir/v4-1"] {
            fs::create_dir_all(directory.path().join(other)).unwrap();
        }
        let pins = Pins::at(&directory.path().join("weir/v1"));
        assert_eq!(pins.remove_all().unwrap(), Vec::<PathBuf>::new());
        assert!(!directory.path().join("weir").exists());
    }
}
