//! Kubernetes objects from files: YAML or JSON, as kubectl prints them. The files are followed:
//! after a change everything is read again, and what differs from before is told.
//!
//! `snapshot -> files -> cluster`: what the disk holds, the last good state of each file, the
//! cluster they describe. `document` reads one file's text, `pods` stands in for the EndpointSlice
//! controller, `watch` says when to look again.

mod cluster;
mod document;
mod files;
mod object;
mod pods;
mod snapshot;
mod watch;

use std::path::PathBuf;

use tokio::sync::mpsc::Sender;
use tokio::task::spawn_blocking;

use self::files::Files;
use self::snapshot::{Given, Snapshot};
use self::watch::Watch;
use super::{SourceError, SourceEvent, SourceWarning};
use crate::model::{Change, Cluster};

/// Files and directories of Kubernetes objects.
#[derive(Debug)]
pub struct Manifests {
    given: Vec<Given>,
    watch: Watch,
    files: Files,
    /// What has been told, to tell no more than what differs.
    told: Option<(Cluster, Vec<SourceWarning>)>,
    /// Whether everything has been readable once. Until then an agent that comes back must not take
    /// what a broken file does not say for gone.
    synced: bool,
}

impl Manifests {
    /// The objects that `paths` hold; nothing is read yet.
    ///
    /// # Errors
    ///
    /// A path leads nowhere, or to neither a file nor a directory.
    pub fn open(paths: &[PathBuf]) -> Result<Self, SourceError> {
        let given = paths.iter().map(|path| Given::open(path)).collect::<Result<_, _>>()?;
        Ok(Self { given, watch: Watch::new(), files: Files::default(), told: None, synced: false })
    }

    pub(super) async fn run(mut self, events: Sender<SourceEvent>) -> Result<(), SourceError> {
        loop {
            let (manifests, news) = spawn_blocking(move || self.read()).await?;
            self = manifests;
            for event in news {
                if events.send(event).await.is_err() {
                    return Ok(());
                }
            }
            tokio::select! {
                () = self.watch.changed() => {}
                () = events.closed() => return Ok(()),
            }
        }
    }

    /// Reads everything and says what is new. Watching begins before reading, so that nothing is
    /// missed in between.
    #[must_use]
    pub fn read(mut self) -> (Self, Vec<SourceEvent>) {
        self.watch.follow(snapshot::directories(&self.given));
        self.files.take(Snapshot::take(&self.given));
        let (cluster, warnings) = cluster::cluster(self.files.contents());
        let watch = self.watch.warnings().iter();
        let warnings: Vec<SourceWarning> =
            watch.chain(self.files.warnings()).cloned().chain(warnings).collect();

        let mut news = Vec::new();
        let (cluster_before, warnings_before) = self.told.take().unwrap_or_default();
        if warnings != warnings_before {
            news.push(SourceEvent::Warnings(warnings.clone()));
        }
        let mut changes = cluster::changes(&cluster_before, &cluster);
        let is_readable = |warnings: &[SourceWarning]| {
            !warnings.iter().any(|p| matches!(p, SourceWarning::Unreadable { .. }))
        };
        if !self.synced && is_readable(&warnings) {
            self.synced = true;
            changes.push(Change::Synced);
        }
        if !changes.is_empty() {
            news.push(SourceEvent::Changes(changes));
        }
        self.told = Some((cluster, warnings));
        (self, news)
    }
}

#[cfg(test)]
mod tests;
