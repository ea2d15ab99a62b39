//! What happens to the agent, and what it wants done.

use std::sync::Arc;
use std::time::Duration;

use lb_common::snat::{Rows, TIERS};

use crate::maps::{Contents, MapError, Operation, References};
use crate::model::{Change, NodeDevice, Warning};

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The cluster changed.
    Cluster(Change),
    /// All warnings of the source that hold; they replace those of before.
    Source(Vec<Warning>),
    /// This node's devices are now these.
    Devices(Vec<NodeDevice>),
    /// Whether which way a packet goes may depend on its source address.
    RoutesBySource(bool),
    /// The source ports for SNAT are now these.
    SnatPorts([Rows; TIERS]),
    /// The time of the latest [`Effect::WakeIn`] has come.
    Tick,
    /// The latest [`Effect::Write`] has ended.
    Written {
        /// How many of its operations, from the first on, are done.
        done: usize,
        /// Why the next one failed; then no later one was tried.
        result: Result<(), MapError>,
    },
    /// A garbage collection of all conntrack tables starts.
    GcStarted,
    /// That collection has seen every entry that was there when it started and is there still (half-open
    /// ones first, since entries move from there to the established ones); they refer to this.
    GcFinished(References),
    /// The maps were read again, and hold this.
    Reread(Box<Contents>),
}

/// Something to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Send [`Event::Tick`] after this time; replaces an earlier one that is not due yet.
    WakeIn(Duration),
    /// Do these operations in their order up to the first that fails, then send
    /// [`Event::Written`]. No other write is requested in between.
    Write(Arc<[Operation]>),
    /// The first complete plan is in the kernel. Returned once.
    Ready,
    /// A warning is new: log it. Those that hold are [`Agent::warnings`].
    Warn(Warning),
}
