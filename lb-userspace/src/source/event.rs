//! What a source yields.

use super::warning::SourceWarning;
use crate::model::Change;

/// What a source yields.
#[derive(Clone, PartialEq, Debug)]
pub enum SourceEvent {
    /// Something happened in the cluster; in this order.
    Changes(Vec<Change>),
    /// All that cannot be read or honoured now: this list replaces the one before.
    Warnings(Vec<SourceWarning>),
}
