//! A lab without an agent, in which tests drive the agent's parts themselves.

use anyhow::Result;
use lb_common::maps::Capacities;
use lb_userspace::cli::pins::pin_directory;
use lb_userspace::pins::Pins;
use weir_tests::lab::{Lab, Node, Shape};
use weir_tests::requires;

/// Small maps: they are made in no time.
pub const SMALL: Capacities = Capacities {
    services: 1024,
    frontends: 1024,
    slots: 4096,
    backends: 1024,
    conntrack: 8192,
    half_open: 8192,
    affinity: 8192,
    processors: 2,
};

/// A lab with one pod on the node, which is all these tests need; `None` if the test is to be
/// skipped.
pub fn lab() -> Result<Option<Lab>> {
    requires::lab(Shape { local_pods: 1, remote_pods: 0, ..Shape::default() })
}

/// Where an agent on `node` would have its pins.
pub fn pins(node: &Node) -> Pins {
    Pins::at(&pin_directory(&node.bpffs))
}
