//! What a watch reports.

use super::client::Failure;
use super::kind::Kind;
use crate::model::{Change, Name, Warning};

/// What a watch reports.
#[derive(Debug)]
pub(super) struct WatchUpdate {
    pub(super) kind: Kind,
    pub(super) changes: Vec<Change>,
    /// The warnings about an object; they replace those before.
    pub(super) warnings: Vec<(Name, Vec<Warning>)>,
    pub(super) state: Option<WatchState>,
}

/// How a watch stands with the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum WatchState {
    /// The server responds.
    Reached,
    /// The server responds, and everything has been listed once.
    Listed,
    /// The server does not respond, or not with what was requested.
    Failed {
        /// Why.
        reason: String,
        /// What to do, if `reason` does not say.
        advice: Option<&'static str>,
        /// Whether all watches fail alike.
        concerns_all: bool,
    },
}

impl WatchUpdate {
    pub(super) fn of(kind: Kind) -> Self {
        Self { kind, changes: Vec::new(), warnings: Vec::new(), state: None }
    }

    pub(super) fn state(kind: Kind, state: WatchState) -> Self {
        Self { state: Some(state), ..Self::of(kind) }
    }

    pub(super) fn failed(kind: Kind, failure: &Failure) -> Self {
        let reason = failure.to_string();
        let (advice, concerns_all) = (failure.advice(), failure.concerns_all());
        Self::state(kind, WatchState::Failed { reason, advice, concerns_all })
    }

    /// There is no warning about this object any more.
    pub(super) fn forget(&mut self, name: &Name) {
        self.warnings.push((name.clone(), Vec::new()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.warnings.is_empty() && self.state.is_none()
    }
}
