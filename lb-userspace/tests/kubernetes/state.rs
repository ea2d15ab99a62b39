//! The state of the API server, shared by its requests and the test.

use std::sync::Mutex;

use serde_json::Value;
use tokio::sync::watch;

use crate::faults::Faults;
use crate::store::Store;

/// The state, and how watches learn of changes.
#[derive(Default)]
pub struct Shared {
    pub state: Mutex<State>,
    /// Counts changes; watches wait for it.
    pub changed: watch::Sender<u64>,
}

#[derive(Default)]
pub struct State {
    pub store: Store,
    pub faults: Faults,
    /// Method and path with query of every request.
    pub requests: Vec<String>,
    /// Events that were written.
    pub events: Vec<Value>,
    /// Watches of an older generation are cut.
    pub generation: u64,
    pub open_watches: usize,
}

impl State {
    /// Closes all watches.
    pub fn cut(&mut self) {
        self.generation += 1;
    }

    /// How many requests contain this text.
    pub fn count(&self, part: &str) -> usize {
        self.requests.iter().filter(|request| request.contains(part)).count()
    }
}
