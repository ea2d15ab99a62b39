//! The agent's mind: what it knows, and what to do next. [`Agent::on`] takes an [`Event`] and
//! answers with [`Effect`]s; it does no I/O and reads no clock, `agent::run` does both for it.

use std::sync::Arc;
use std::time::Duration;

use crate::maps::{BackendSet, Contents, MapError, Operation};
use crate::model::{Change, NodeDevice, Remark};

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The cluster changed.
    Cluster(Change),
    /// All that the source has to remark at present about objects it could not read; replaces what
    /// it remarked before.
    Source(Vec<Remark>),
    /// This node's devices are now these.
    Devices(Vec<NodeDevice>),
    /// The time of the latest [`Effect::WakeIn`] has come.
    Tick,
    /// The latest [`Effect::Write`] has ended.
    Written {
        /// How many of its operations, from the first on, are done.
        done: usize,
        /// Why the next one failed; then no later one was tried.
        result: Result<(), MapError>,
    },
    /// A sweep of all connection tables begins.
    SweepBegun,
    /// That sweep has seen every entry that was there when it began and is there still (half-open
    /// ones first, since entries move from there to the established ones); they refer to these
    /// backends.
    Swept(BackendSet),
    /// The maps were read again, and hold this. To be read while no write is under way.
    Reread(Contents),
}

/// Something to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Send [`Event::Tick`] after this time; replaces an earlier one that is not due yet.
    WakeIn(Duration),
    /// Do these operations in their order up to the first that fails, then send
    /// [`Event::Written`]. No other write is asked for in between.
    Write(Arc<[Operation]>),
    /// The first complete plan is in the kernel. Told once.
    Ready,
    /// A remark that is new: to be logged. Those that hold are [`Agent::remarks`].
    Remark(Remark),
}
