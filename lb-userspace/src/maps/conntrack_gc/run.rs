//! The result of a garbage collection.

use crate::maps::References;

/// The result of a run.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct GcRun {
    /// What entries refer to.
    pub referenced: References,
    /// Entries that were read.
    pub entries: u64,
    /// Those of them that were half-open.
    pub half_open: u64,
    /// Entries that were removed.
    pub removed: u64,
    /// How full each table was.
    pub tables: Vec<Fill>,
    /// Source ports in use by SNAT towards the backend that has most, from one address of this node.
    pub busiest_backend: u32,
}

/// How full a map is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fill {
    /// Name of the map.
    pub map: &'static str,
    /// Entries in use.
    pub entries: u64,
    /// Entries it can hold.
    pub capacity: u64,
}
