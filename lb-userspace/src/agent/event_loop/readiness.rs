//! Says once that the agent is ready.

use std::mem;

use crate::agent::log;
use crate::observe::{Moment, Observer};

/// Whether it was said.
#[derive(Default)]
pub struct Readiness {
    is_announced: bool,
}

impl Readiness {
    /// Whether the agent is ready now; the first time that is said.
    pub fn update(&mut self, observer: &Observer) -> bool {
        let is_ready = observer.is_ready(Moment::now());
        if is_ready && !mem::replace(&mut self.is_announced, true) {
            log::ready();
        }
        is_ready
    }
}
