//! Tells when files may have changed. Directories are watched, never files, because editors and
//! ConfigMap volumes replace the old file by a new one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::snapshot;
use crate::source::warning::{FilePosition, SourceWarning};

/// Files are read again after this long even if nothing was noticed: network file systems
/// send no events.
const PERIOD: Duration = Duration::from_secs(30);

/// After a change, this long without another means that the writer is done.
const QUIET: Duration = Duration::from_millis(50);

/// Changes are waited out for no longer than this.
const PATIENCE: Duration = Duration::from_secs(2);

/// Watches directories.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None` where the kernel gives no watch: then files are read again by time alone.
    watcher: Option<RecommendedWatcher>,
    noticed: Arc<Noticed>,
    watched: BTreeSet<PathBuf>,
    warnings: Vec<SourceWarning>,
}

/// What the watcher's own thread has seen.
#[derive(Debug, Default)]
struct Noticed {
    change: Notify,
    /// Files written to and not closed since.
    being_written: Mutex<BTreeSet<PathBuf>>,
}

impl Watch {
    /// Watches nothing yet.
    pub(super) fn new() -> Self {
        let noticed = Arc::new(Noticed::default());
        let theirs = Arc::clone(&noticed);
        let watcher = notify::recommended_watcher(move |event| theirs.note(event));
        let (watcher, warnings) = match watcher {
            Ok(watcher) => (Some(watcher), Vec::new()),
            Err(error) => (None, vec![warning(Path::new("--manifests"), &error)]),
        };
        Self { watcher, noticed, watched: BTreeSet::new(), warnings }
    }

    /// Watches `directories` and no others from now on. Those already watched are watched again:
    /// another directory may have replaced one.
    pub(super) fn follow(&mut self, directories: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for gone in self.watched.difference(&directories) {
            // It fails where the directory is gone, and its watch with it.
            watcher.unwatch(gone).ok();
        }
        self.warnings = directories
            .iter()
            .filter_map(|directory| {
                let error = watcher.watch(directory, RecursiveMode::NonRecursive).err()?;
                directory.exists().then(|| warning(directory, &error))
            })
            .collect();
        self.watched = directories;
    }

    /// What is noticed late.
    pub(super) fn warnings(&self) -> &[SourceWarning] {
        &self.warnings
    }

    /// Returns once something may have changed and is likely to be complete.
    pub(super) async fn changed(&self) {
        if timeout(PERIOD, self.noticed.change.notified()).await.is_err() {
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let quiet = if self.noticed.is_being_written() {
                deadline
            } else {
                deadline.min(Instant::now() + QUIET)
            };
            if timeout_at(quiet, self.noticed.change.notified()).await.is_err() {
                self.noticed.being_written().clear();
                return;
            }
        }
    }
}

impl Noticed {
    fn note(&self, event: notify::Result<Event>) {
        let Ok(event) = event else {
            // Something was missed, so anything may have changed.
            self.change.notify_one();
            return;
        };
        let mut being_written = self.being_written();
        match event.kind {
            EventKind::Modify(ModifyKind::Data(_)) => {
                being_written.extend(event.paths.into_iter().filter(|path| snapshot::counts(path)));
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_) => {
                for path in &event.paths {
                    being_written.remove(path);
                }
            }
            // Our own reading is among these.
            EventKind::Access(_) => return,
            EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Other => {}
        }
        self.change.notify_one();
    }

    fn is_being_written(&self) -> bool {
        !self.being_written().is_empty()
    }

    fn being_written(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.being_written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn warning(directory: &Path, error: &notify::Error) -> SourceWarning {
    SourceWarning::Watch {
        position: FilePosition::whole(directory),
        reason: format!(
            "cannot be watched ({error}): changes are noticed every {} s only; raise \
             fs.inotify.max_user_watches and fs.inotify.max_user_instances with sysctl",
            PERIOD.as_secs()
        ),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use notify::event::{CreateKind, DataChange, RemoveKind, RenameMode};

    use super::*;

    const WRITE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSE: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const REMOVE: EventKind = EventKind::Remove(RemoveKind::File);
    const RENAME: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::From));

    fn noticed(kinds: &[EventKind], path: &str) -> Noticed {
        let noticed = Noticed::default();
        for kind in kinds {
            noticed.note(Ok(Event::new(*kind).add_path(path.into())));
        }
        noticed
    }

    fn is_change(noticed: &Noticed) -> bool {
        noticed.change.notified().now_or_never().is_some()
    }

    #[test]
    fn reading_is_no_change() {
        let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let close = EventKind::Access(AccessKind::Close(AccessMode::Read));
        assert!(!is_change(&noticed(&[open, close], "a.yaml")));
    }

    #[test]
    fn everything_else_is_a_change_and_so_is_what_was_missed() {
        let create = EventKind::Create(CreateKind::File);
        for kind in [create, WRITE, CLOSE, REMOVE, RENAME, EventKind::Other] {
            assert!(is_change(&noticed(&[kind], "a.yaml")), "{kind:?}");
        }
        let missed = Noticed::default();
        missed.note(Err(notify::Error::generic("queue overflow")));
        assert!(is_change(&missed));
    }

    #[test]
    fn a_manifest_is_being_written_until_it_is_closed_removed_or_renamed() {
        assert!(noticed(&[WRITE, WRITE], "a.yaml").is_being_written());
        for end in [CLOSE, REMOVE, RENAME] {
            assert!(!noticed(&[WRITE, end], "a.yaml").is_being_written(), "{end:?}");
        }
        assert!(!noticed(&[WRITE], "agent.log").is_being_written());
    }
}
