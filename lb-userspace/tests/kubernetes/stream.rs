//! A watch's stream, well or badly sent.

use std::sync::Arc;

use axum::body::Bytes;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::api::Shared;
use crate::faults::Manner;
use crate::store::{Resource, Selector};

/// One watch's stream.
pub struct Watching {
    pub shared: Arc<Shared>,
    pub bell: watch::Receiver<u64>,
    pub resource: Resource,
    pub selector: Selector,
    pub generation: u64,
    /// The history it asks for is gone.
    pub is_lost: bool,
    pub until: Instant,
    pub sent: u64,
    /// Bytes that are on their way.
    pub pending: Vec<u8>,
    pub last: Option<Vec<u8>>,
}

impl Watching {
    /// The next bytes; `None` where the stream ends as it should.
    pub async fn next(&mut self) -> Option<Result<Bytes, CutOff>> {
        loop {
            if !self.pending.is_empty() {
                let some = self.pending.len().min(7);
                return Some(Ok(self.pending.drain(..some).collect()));
            }
            if let Some(chunk) = self.ready() {
                return chunk;
            }
            if timeout_at(self.until, self.bell.changed()).await.is_err() {
                return self.last_bookmark();
            }
        }
    }

    /// What is to be sent now: nothing yet, the end, or bytes.
    fn ready(&mut self) -> Option<Option<Result<Bytes, CutOff>>> {
        self.bell.mark_unchanged();
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
        let manner = state.faults.manner;
        if manner == Manner::Never {
            return None;
        }
        let lines = state.store.since(self.resource, &self.selector, self.sent);
        let (revision, line) = lines.into_iter().next()?;
        let mut line = format!("{line}\n").into_bytes();
        if manner == Manner::CutOnce {
            state.faults.manner = Manner::Properly;
            state.generation += 1;
            line.truncate(line.len() / 2);
            return Some(Some(Ok(line.into())));
        }
        self.sent = revision;
        let before = self.last.replace(line.clone());
        match manner {
            Manner::Slowly => {
                self.pending = line;
                Some(Some(Ok(Bytes::new())))
            }
            Manner::Repeatedly => {
                let lines = [line.clone(), line, before.unwrap_or_default()].concat();
                Some(Some(Ok(lines.into())))
            }
            Manner::Properly | Manner::CutOnce | Manner::Never => Some(Some(Ok(line.into()))),
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

impl Drop for Watching {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap();
        state.open_watches = state.open_watches.saturating_sub(1);
    }
}

/// The connection ends in the middle.
#[derive(Debug, thiserror::Error)]
#[error("cut off")]
pub struct CutOff;
