//! The agent's runtime directory below `/run/weir`: by its lock one agent at a time works on a pin
//! directory, and its status file says how that agent is.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::status::Status;

/// Below this every agent has its directory.
const HOME: &str = "/run/weir";

/// The file by whose lock others see that an agent runs. It is not the one that decides which agent may
/// run: then a reader could keep an agent from starting.
const RUNNING: &str = "running";

/// Why an agent has no runtime directory.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeDirError {
    /// Another agent works on the same pins.
    #[error(
        "weir run works on {pins} already{}; stop it first",
        process.map(|id| format!(" (process {id})")).unwrap_or_default()
    )]
    Locked {
        /// Its pins.
        pins: PathBuf,
        /// Its process, if its status file names it.
        process: Option<u32>,
    },
    /// The directory or a file in it cannot be used.
    #[error("{path}: {error}; weir keeps its lock and its status there: run it as root")]
    File {
        /// Which one.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
}

/// A runtime directory that is ours while this value lives. Its files stay.
#[derive(Debug)]
pub struct RuntimeDir {
    directory: PathBuf,
    _lock: Flock<File>,
    _running: Flock<File>,
}

impl RuntimeDir {
    /// Locks the runtime directory of the agent that works on `pins`.
    ///
    /// # Errors
    /// [`RuntimeDirError`]
    pub fn lock(pins: &Path) -> Result<Self, RuntimeDirError> {
        Self::lock_below(Path::new(HOME), pins)
    }

    fn lock_below(home: &Path, pins: &Path) -> Result<Self, RuntimeDirError> {
        let directory = directory(home, pins);
        fs::create_dir_all(&directory).map_err(|error| file(&directory, error))?;
        remove_orphans(home);
        let Some(lock) = lock(&directory)? else {
            return Err(RuntimeDirError::Locked {
                pins: pins.into(),
                process: read(&directory).ok().map(|status| status.process),
            });
        };
        let bpffs = bpffs(pins).as_os_str().as_bytes();
        lock.set_len(0)
            .and_then(|()| (&*lock).write_all(bpffs))
            .map_err(|error| file(&directory, error))?;
        // Readers hold this one for a moment, so it is waited for.
        let path = directory.join(RUNNING);
        let running = File::create(&path).map_err(|error| file(&path, error))?;
        let running = Flock::lock(running, FlockArg::LockExclusive)
            .map_err(|(_, error)| file(&path, error.into()))?;
        Ok(Self { directory, _lock: lock, _running: running })
    }

    /// Writes the status file in one step: a reader sees the old or the new status.
    ///
    /// # Errors
    /// [`RuntimeDirError::File`]
    pub fn write_status(&self, status: &Status) -> Result<(), RuntimeDirError> {
        let path = self.directory.join("status.json");
        let next = self.directory.join("status.json.next");
        let write = || {
            let mut file = File::create(&next)?;
            serde_json::to_writer_pretty(&mut file, status)?;
            file.write_all(b"\n")?;
            fs::rename(&next, &path)
        };
        write().map_err(|error: io::Error| file(&path, error))
    }

    /// Removes the directory.
    ///
    /// # Errors
    /// [`RuntimeDirError::File`]
    pub fn remove(self) -> Result<(), RuntimeDirError> {
        fs::remove_dir_all(&self.directory).map_err(|error| file(&self.directory, error))
    }
}

/// The status of the agent that works, or last worked, on `pins`; `None` if there was none.
///
/// # Errors
/// [`RuntimeDirError::File`]
pub fn status(pins: &Path) -> Result<Option<Status>, RuntimeDirError> {
    let directory = directory(Path::new(HOME), pins);
    match read(&directory) {
        Ok(status) => Ok(Some(status)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file(&directory.join("status.json"), error)),
    }
}

/// Whether an agent works on `pins`.
///
/// # Errors
/// [`RuntimeDirError::File`]
pub fn is_running(pins: &Path) -> Result<bool, RuntimeDirError> {
    is_running_below(Path::new(HOME), pins)
}

fn is_running_below(home: &Path, pins: &Path) -> Result<bool, RuntimeDirError> {
    let path = directory(home, pins).join(RUNNING);
    let running = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(file(&path, error)),
    };
    match Flock::lock(running, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, error)) => Err(file(&path, error.into())),
    }
}

/// The lock of a runtime directory, unless another agent has it.
fn lock(directory: &Path) -> Result<Option<Flock<File>>, RuntimeDirError> {
    let path = directory.join("lock");
    let open = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let lock = open.map_err(|error| file(&path, error))?;
    match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(file(&path, error.into())),
    }
}

/// Removes the directories of agents that are gone together with their BPF file system, as those of
/// labs are. What cannot be removed is left to the next agent.
fn remove_orphans(home: &Path) {
    for directory in fs::read_dir(home).into_iter().flatten().flatten() {
        let directory = directory.path();
        let Ok(bpffs) = fs::read(directory.join("lock")) else {
            continue;
        };
        // Unwritten yet: its agent is about to.
        let is_orphan = !bpffs.is_empty() && !Path::new(OsStr::from_bytes(&bpffs)).exists();
        if is_orphan && matches!(lock(&directory), Ok(Some(_))) {
            let _ = fs::remove_dir_all(&directory);
        }
    }
}

/// The directory given as `--bpffs`.
fn bpffs(pins: &Path) -> &Path {
    pins.ancestors().nth(2).unwrap_or(pins)
}

fn read(directory: &Path) -> io::Result<Status> {
    let text = fs::read(directory.join("status.json"))?;
    Ok(serde_json::from_slice(&text)?)
}

/// The directory for the pins below `<bpffs>/weir`, whichever the layout's version: a name in which
/// every slash of that path is a dash, as systemd names units after paths.
fn directory(home: &Path, pins: &Path) -> PathBuf {
    let path = bpffs(pins).to_string_lossy();
    let name: String = path
        .trim_matches('/')
        .chars()
        .map(|c| match c {
            '/' => "-".to_owned(),
            '-' => "\\x2d".to_owned(),
            c => c.to_string(),
        })
        .collect();
    home.join(if name.is_empty() { "-" } else { &name })
}

fn file(path: &Path, error: io::Error) -> RuntimeDirError {
    RuntimeDirError::File { path: path.into(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(ready: bool) -> Status {
        Status { process: 7, ready, ..Status::default() }
    }

    #[test]
    fn a_second_agent_on_the_same_pins_is_refused_and_the_first_is_named() {
        let home = tempfile::tempdir().unwrap();
        let pins = Path::new("/sys/fs/bpf/weir/v1");
        let runtime_dir = RuntimeDir::lock_below(home.path(), pins).unwrap();
        runtime_dir.write_status(&status(false)).unwrap();
        let error = RuntimeDir::lock_below(home.path(), pins).unwrap_err();
        assert!(error.to_string().contains("(process 7); stop it"), "{error}");
        RuntimeDir::lock_below(home.path(), Path::new("/other/weir/v1")).unwrap();
        assert!(is_running_below(home.path(), pins).unwrap());
        drop(runtime_dir);
        assert!(!is_running_below(home.path(), pins).unwrap());
        RuntimeDir::lock_below(home.path(), pins).unwrap();
    }

    #[test]
    fn the_latest_status_is_read_until_the_directory_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let pins = Path::new("/sys/fs/bpf/weir/v1");
        let runtime_dir = RuntimeDir::lock_below(home.path(), pins).unwrap();
        let directory = directory(home.path(), pins);
        for ready in [false, true] {
            runtime_dir.write_status(&status(ready)).unwrap();
            assert_eq!(read(&directory).unwrap(), status(ready));
        }
        runtime_dir.remove().unwrap();
        assert!(!directory.exists());
    }

    #[test]
    fn the_directory_of_an_agent_that_is_gone_with_its_bpffs_is_removed_by_the_next_agent() {
        let home = tempfile::tempdir().unwrap();
        let (stays, goes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = |bpffs: &Path| directory(home.path(), &bpffs.join("weir/v1"));
        let lock = |bpffs: &Path| RuntimeDir::lock_below(home.path(), &bpffs.join("weir/v1"));
        let gone = goes.path().to_owned();
        for bpffs in [stays.path(), &gone] {
            drop(lock(bpffs).unwrap());
        }
        goes.close().unwrap();
        drop(lock(&stays.path().join("other")).unwrap());
        assert!(path(stays.path()).exists());
        assert!(!path(&gone).exists());
    }

    #[test]
    fn different_bpffs_have_different_directories_and_versions_share_one() {
        let of = |pins: &str| directory(Path::new(HOME), Path::new(pins));
        assert_eq!(of("/sys/fs/bpf/weir/v1"), Path::new("/run/weir/sys-fs-bpf"));
        assert_eq!(of("/sys/fs/bpf/weir/v1"), of("/sys/fs/bpf/weir/v2"));
        assert_ne!(of("/a/b-c/weir/v1"), of("/a/b/c/weir/v1"));
    }
}
