//! The stream of one watch, with the faults of the server.

use std::sync::Arc;

use axum::body::Bytes;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::faults::Delivery;
use crate::state::Shared;
use crate::store::{Resource, Selector};

/// One watch's stream.
pub struct WatchStream {
    pub shared: Arc<Shared>,
    pub changed: watch::Receiver<u64>,
    pub resource: Resource,
    pub selector: Selector,
    pub generation: u64,
    /// The history that it needs is gone.
    pub is_lost: bool,
    pub until: Instant,
    pub sent: u64,
    /// Bytes to send.
    pub pending: Vec<u8>,
    pub last: Option<Vec<u8>>,
}

impl WatchStream {
    /// The next bytes; `None` at a regular end.
    pub async fn next(&mut self) -> Option<Result<Bytes, CutOff>> {
        loop {
            if !self.pending.is_empty() {
                let some = self.pending.len().min(7);
                return Some(Ok(self.pending.drain(..some).collect()));
            }
            if let Some(chunk) = self.ready() {
                return chunk;
            }
            if timeout_at(self.until, self.changed.changed()).await.is_err() {
                return self.last_bookmark();
            }
        }
    }

    /// What to send now: nothing yet (`None`), the end, or bytes.
    fn ready(&mut self) -> Option<Option<Result<Bytes, CutOff>>> {
        self.changed.mark_unchanged();
        let mut state = self.shared.state.lock().unwrap();
        if state.generation != self.generation {
            return Some(Some(Err(CutOff)));
        }
        if std::mem::take(&mut self.is_lost) {
            self.until = Instant::now();
            self.sent = u64::MAX;
            let error = json!({"type": "ERROR", "object": {
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "too old resource version", "reason": "Expired", "code": 410,
            }});
            return Some(Some(Ok(format!("{error}\n").into())));
        }
        let delivery = state.faults.delivery;
        if delivery == Delivery::Never {
            return None;
        }
        let lines = state.store.since(self.resource, &self.selector, self.sent);
        let (revision, line) = lines.into_iter().next()?;
        let mut line = format!("{line}\n").into_bytes();
        if state.faults.garbled == Some(revision) {
            line = b"{\"type\":\"MODIFIED\",\"object\":null}\n".to_vec();
        }
        if delivery == Delivery::CutOnce {
            state.faults.delivery = Delivery::Properly;
            state.generation += 1;
            line.truncate(line.len() / 2);
            return Some(Some(Ok(line.into())));
        }
        self.sent = revision;
        let before = self.last.replace(line.clone());
        match delivery {
            Delivery::Slowly => {
                self.pending = line;
                Some(Some(Ok(Bytes::new())))
            }
            Delivery::Repeatedly => {
                let lines = [line.clone(), line, before.unwrap_or_default()].concat();
                Some(Some(Ok(lines.into())))
            }
            Delivery::Properly | Delivery::CutOnce | Delivery::Never => Some(Some(Ok(line.into()))),
        }
    }

    fn last_bookmark(&mut self) -> Option<Result<Bytes, CutOff>> {
        if self.sent == u64::MAX {
            return None;
        }
        let revision = self.shared.state.lock().unwrap().store.revision.max(self.sent);
        self.sent = u64::MAX;
        let bookmark = json!({"type": "BOOKMARK", "object": {
            "kind": "Service", "apiVersion": "v1",
            "metadata": {"resourceVersion": revision.to_string()},
        }});
        Some(Ok(format!("{bookmark}\n").into()))
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap();
        state.open_watches = state.open_watches.saturating_sub(1);
    }
}

/// The connection is cut.
#[derive(Debug, thiserror::Error)]
#[error("cut off")]
pub struct CutOff;
