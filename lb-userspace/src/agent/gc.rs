//! Conntrack garbage collection. It may take longer than the event loop may stand still, so it runs on
//! a thread of its own.

use std::future::pending;

use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use crate::maps::MapError;
use crate::maps::conntrack_gc::{self, GcRun, KernelFlows};
use crate::pins::Pins;

/// The conntrack tables, and the collection that is under way.
pub struct ConntrackGc {
    /// The tables, between collections.
    tables: Option<KernelFlows>,
    /// The collection under way, which gives the tables back.
    running: Option<JoinHandle<(KernelFlows, Result<GcRun, MapError>)>>,
}

impl ConntrackGc {
    /// Opens the tables in `pins`.
    ///
    /// # Errors
    /// That they cannot be opened.
    pub fn open(pins: &Pins) -> Result<Self, MapError> {
        Ok(Self { tables: Some(KernelFlows::open(pins)?), running: None })
    }

    /// Whether no collection is under way.
    pub const fn is_idle(&self) -> bool {
        self.running.is_none()
    }

    /// Starts a collection, unless one is under way.
    pub fn start(&mut self) {
        if let Some(tables) = self.tables.take() {
            self.running = Some(spawn_blocking(move || {
                let result = tables.collect(conntrack_gc::now());
                (tables, result)
            }));
        }
    }

    /// Waits for the collection under way; for ever if there is none. The future may be dropped.
    ///
    /// # Errors
    /// It was ended by a panic.
    pub async fn finished(&mut self) -> Result<Result<GcRun, MapError>, JoinError> {
        let Some(running) = &mut self.running else {
            return pending().await;
        };
        let (tables, result) = running.await?;
        self.tables = Some(tables);
        self.running = None;
        Ok(result)
    }
}
