//! Reads the files, follows them, and yields what differs from before.

use std::path::PathBuf;

use tokio::sync::mpsc::Sender;
use tokio::task::spawn_blocking;

use super::files::Files;
use super::snapshot::{ManifestPath, Snapshot};
use super::watch::Watch;
use super::{changes, cluster, snapshot};
use crate::model::{Change, Cluster};
use crate::source::error::SourceError;
use crate::source::event::SourceEvent;
use crate::source::warning::SourceWarning;

/// Files and directories of Kubernetes objects.
#[derive(Debug)]
pub struct Manifests {
    given: Vec<ManifestPath>,
    watch: Watch,
    files: Files,
    /// What was sent last, so that only what differs is sent.
    sent: Option<(Cluster, Vec<SourceWarning>)>,
    /// Whether everything has been readable once. Until then an agent that comes back must not take
    /// the objects of a broken file for gone.
    synced: bool,
}

impl Manifests {
    /// The objects that `paths` hold; nothing is read yet.
    ///
    /// # Errors
    ///
    /// A path leads nowhere, or to neither a file nor a directory.
    pub fn open(paths: &[PathBuf]) -> Result<Self, SourceError> {
        let given = paths.iter().map(|path| ManifestPath::open(path)).collect::<Result<_, _>>()?;
        Ok(Self { given, watch: Watch::new(), files: Files::default(), sent: None, synced: false })
    }

    pub(crate) async fn run(mut self, events: Sender<SourceEvent>) -> Result<(), SourceError> {
        loop {
            let (manifests, events_to_send) = spawn_blocking(move || self.read()).await?;
            self = manifests;
            for event in events_to_send {
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

    /// Reads everything and returns what is new. Watching begins before reading, so that nothing is
    /// missed in between.
    #[must_use]
    pub fn read(mut self) -> (Self, Vec<SourceEvent>) {
        self.watch.follow(snapshot::directories(&self.given));
        self.files.take(Snapshot::take(&self.given));
        let (cluster, warnings) = cluster::cluster(self.files.contents());
        let watch = self.watch.warnings().iter();
        let warnings: Vec<SourceWarning> =
            watch.chain(self.files.warnings()).cloned().chain(warnings).collect();

        let mut events = Vec::new();
        let (cluster_before, warnings_before) = self.sent.take().unwrap_or_default();
        if warnings != warnings_before {
            events.push(SourceEvent::Warnings(warnings.clone()));
        }
        let mut changes = changes::changes(&cluster_before, &cluster);
        let is_readable = |warnings: &[SourceWarning]| {
            !warnings.iter().any(|warning| matches!(warning, SourceWarning::Unreadable { .. }))
        };
        if !self.synced && is_readable(&warnings) {
            self.synced = true;
            changes.push(Change::Synced);
        }
        if !changes.is_empty() {
            events.push(SourceEvent::Changes(changes));
        }
        self.sent = Some((cluster, warnings));
        (self, events)
    }
}

#[cfg(test)]
mod tests;
