//! The rows of one family, for code that is generic over families.

use std::collections::BTreeSet;

use lb_common::address::{V4, V6};
use lb_common::backend::BackendId;
use lb_common::settings::InSettings;

use super::references::BackendSet;
use super::values::{Contents, FamilyContents};
use crate::maps::operation::{FamilyOperation, Operation};

/// Access to one family's rows in the contents.
pub trait InContents: InSettings {
    /// This family's rows.
    fn rows(contents: &Contents) -> &FamilyContents<Self>;
    /// This family's rows, to change.
    fn rows_mut(contents: &mut Contents) -> &mut FamilyContents<Self>;
    /// This family's backends of `set`.
    fn ids(set: &BackendSet) -> &BTreeSet<BackendId>;
    /// The operation on this family's maps.
    fn operation(operation: FamilyOperation<Self>) -> Operation;
}

impl InContents for V4 {
    fn rows(contents: &Contents) -> &FamilyContents<Self> {
        &contents.v4
    }

    fn rows_mut(contents: &mut Contents) -> &mut FamilyContents<Self> {
        &mut contents.v4
    }

    fn ids(set: &BackendSet) -> &BTreeSet<BackendId> {
        &set.v4
    }

    fn operation(operation: FamilyOperation<Self>) -> Operation {
        Operation::V4(operation)
    }
}

impl InContents for V6 {
    fn rows(contents: &Contents) -> &FamilyContents<Self> {
        &contents.v6
    }

    fn rows_mut(contents: &mut Contents) -> &mut FamilyContents<Self> {
        &mut contents.v6
    }

    fn ids(set: &BackendSet) -> &BTreeSet<BackendId> {
        &set.v6
    }

    fn operation(operation: FamilyOperation<Self>) -> Operation {
        Operation::V6(operation)
    }
}
