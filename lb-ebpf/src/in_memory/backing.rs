//! What stands behind a world in memory: `weir explain` reads the kernel's maps and routes there.

use lb_common::address::{Address, Tuple};
use lb_common::affinity::{Affinity, Client};
use lb_common::conntrack::ConntrackEntry;

use crate::world::{FibResult, Table};

/// Answers what a world in memory does not know. Each entry and client is asked for once; what the
/// walk changes afterwards stays in memory.
pub trait Backing<A: Address> {
    /// The conntrack entry of `tuple`.
    fn entry(&self, _table: Table, _tuple: &Tuple<A>) -> Option<ConntrackEntry<A>> {
        None
    }

    /// What `client` got last.
    fn affinity(&self, _client: &Client<A>) -> Option<Affinity> {
        None
    }

    /// The route to `destination`; `None` leaves it to the memory's own routes.
    fn fib_lookup(&self, _destination: &A) -> Option<FibResult> {
        None
    }

    /// The address that the node's own packets to `destination` have as their source; `None` takes that of the device they
    /// leave by.
    fn source_address(&self, _destination: &A) -> Option<A> {
        None
    }

    /// The source address of `device`; `None` leaves it to the memory's own.
    fn device_address(&self, _device: u32) -> Option<A> {
        None
    }
}

/// Nothing stands behind.
impl<A: Address> Backing<A> for () {}
