//! Leaving nothing behind. A lab is removed when its value is dropped, when its process is ended
//! by a signal, and, should the process have been killed outright, at the next lab's start: its
//! name says which process it belongs to.

use std::fs;
use std::io::Read;
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::cgroup;
use super::namespace::ip;

/// Where each lab has its folder.
const LABS_DIR: &str = "/run/weir-labs";

/// Where agents keep their runtime directories, by the escaped path of their bpffs.
const RUNTIME_DIR: &str = "/run/weir";

/// What every name of a lab begins with.
const PREFIX: &str = "weir-";

/// A lab's name: `weir-PID-START-NUMBER`, of its process's id and start time, which together never
/// come twice, and its number within the process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Name(String);

/// The labs of this process that a signal must remove.
static LIVE_LABS: Mutex<Vec<Name>> = Mutex::new(Vec::new());

impl Name {
    /// A name for a new lab of this process. The labs of processes that are gone are removed first.
    pub(super) fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static CLEANED: Once = Once::new();
        let mut cleaned = Ok(());
        CLEANED.call_once(|| cleaned = remove_leftovers().and_then(|()| remove_on_signals()));
        cleaned?;
        let own = process::id();
        let start = start_time(own).context("cannot read /proc/self/stat: is /proc mounted?")?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = Self(format!("{PREFIX}{own}-{start}-{number}"));
        fs::create_dir_all(name.folder())
            .with_context(|| format!("cannot make {LABS_DIR}: labs need root"))?;
        let mut labs = live_labs();
        if labs.is_empty()
            && let Some(group) = cgroup()
        {
            cgroup::enter(&group)?;
        }
        labs.push(name.clone());
        Ok(name)
    }

    /// The lab's folder, for manifests and mounts.
    pub(super) fn folder(&self) -> PathBuf {
        Path::new(LABS_DIR).join(&self.0)
    }

    /// The name of the lab's namespace `role`.
    pub(super) fn namespace(&self, role: &str) -> String {
        format!("{}-{role}", self.0)
    }

    /// Removes namespaces, mounts and folder of the lab; what is already gone is no error.
    pub(super) fn remove(&self) {
        remove(&self.0);
        let mut labs = live_labs();
        labs.retain(|lab| lab != self);
        if labs.is_empty()
            && let Some(group) = cgroup()
        {
            cgroup::leave(&group);
        }
    }
}

/// The control group of this process, which it is in while it has labs; `None` where the machine has
/// no cgroup v2.
pub(super) fn cgroup() -> Option<PathBuf> {
    let own = process::id();
    cgroup::named(&format!("{PREFIX}{own}-{}-0", start_time(own)?))
}

fn remove(name: &str) {
    let namespaces = entries("/run/netns").filter(|entry| {
        let role = entry.strip_prefix(name);
        role.is_some_and(|role| role.starts_with('-'))
    });
    let lines: String = namespaces.map(|namespace| format!("netns delete {namespace}\n")).collect();
    if !lines.is_empty() {
        // With -force each line is tried, whatever became of the one before.
        let _ = ip(&["-force"], &lines);
    }
    let folder = Path::new(LABS_DIR).join(name);
    for entry in entries(&folder) {
        let _ = umount2(&folder.join(entry), MntFlags::MNT_DETACH);
    }
    let _ = fs::remove_dir_all(&folder);
    // An agent that was killed could not remove its runtime directory.
    let escaped = format!("{}-", name.replace('-', "\\x2d"));
    for own in entries(RUNTIME_DIR).filter(|own| own.contains(&escaped)) {
        let _ = fs::remove_dir_all(Path::new(RUNTIME_DIR).join(own));
    }
}

fn live_labs() -> MutexGuard<'static, Vec<Name>> {
    LIVE_LABS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the labs whose process is gone.
fn remove_leftovers() -> Result<()> {
    let folders: Vec<String> = entries(LABS_DIR).collect();
    for name in entries("/run/netns").chain(folders) {
        if let Some(lab) = lab_of_dead_process(&name) {
            remove(lab);
        }
    }
    let hierarchy = cgroup::hierarchy();
    for group in hierarchy.iter().flat_map(entries) {
        if lab_of_dead_process(&group).is_some() {
            cgroup::named(&group).iter().for_each(|group| cgroup::remove(group));
        }
    }
    Ok(())
}

/// The lab's name at the start of `entry`, if it is one and its process is gone.
fn lab_of_dead_process(entry: &str) -> Option<&str> {
    let mut parts = entry.strip_prefix(PREFIX)?.splitn(4, '-');
    let (process, start) = (parts.next()?.parse().ok()?, parts.next()?);
    let number = parts.next()?;
    let _: u64 = start.parse().ok()?;
    let _: u32 = number.parse().ok()?;
    let length = PREFIX.len() + format!("{process}-{start}-{number}").len();
    (start_time(process).as_deref() != Some(start)).then(|| &entry[..length])
}

/// When `process` began, in clock ticks since boot (field 22 of `/proc/PID/stat`, proc(5)); `None`
/// if it is gone.
fn start_time(process: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let after_name = stat.rsplit_once(") ")?.1;
    after_name.split(' ').nth(19).map(str::to_owned)
}

fn entries(folder: impl AsRef<Path>) -> impl Iterator<Item = String> {
    let read = fs::read_dir(folder).into_iter().flatten().flatten();
    read.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Whether a signal has asked this process to end. It ends once its labs are removed; what fails
/// until then fails because of that.
#[must_use]
pub fn is_ending() -> bool {
    ENDING.load(Ordering::Relaxed)
}

static ENDING: AtomicBool = AtomicBool::new(false);

/// The end of a pipe that the signal handler writes to.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// Has this process's labs removed when a signal ends it.
fn remove_on_signals() -> Result<()> {
    let (mut reader, writer) = std::io::pipe()?;
    WAKE.store(writer.into_raw_fd(), Ordering::Relaxed);
    thread::spawn(move || {
        let mut signal = [0];
        if reader.read_exact(&mut signal).is_ok() {
            let labs = live_labs().clone();
            for lab in labs {
                lab.remove();
            }
            process::exit(128 + i32::from(signal[0]));
        }
    });
    let action = SigAction::new(SigHandler::Handler(wake), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: `wake` makes one system call that is allowed in signal handlers.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

extern "C" fn wake(signal: i32) {
    ENDING.store(true, Ordering::Relaxed);
    let byte = [signal as u8];
    // SAFETY: write(2) is async-signal-safe, and the buffer is one byte long.
    unsafe { libc::write(WAKE.load(Ordering::Relaxed), byte.as_ptr().cast(), 1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_of_a_living_process_is_left_alone() {
        let own = process::id();
        let start = start_time(own).unwrap();
        assert_eq!(lab_of_dead_process(&format!("weir-{own}-{start}-0-node1")), None);
    }

    #[test]
    fn a_lab_whose_process_is_gone_or_has_been_replaced_is_a_leftover() {
        let own = process::id();
        let entry = format!("weir-{own}-1-12-node1");
        assert_eq!(lab_of_dead_process(&entry), Some(entry.trim_end_matches("-node1")));
        assert_eq!(lab_of_dead_process("weir-4294967295-5-0"), Some("weir-4294967295-5-0"));
    }

    #[test]
    fn what_is_no_lab_is_none_of_ours() {
        for entry in ["weir-node", "weir-1-2", "cni-1-2-3", "weir-a-b-c-d"] {
            assert_eq!(lab_of_dead_process(entry), None, "{entry}");
        }
    }
}
