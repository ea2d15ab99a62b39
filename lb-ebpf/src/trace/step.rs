//! One step of a walk.

use lb_common::address::{Address, Tuple};
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::{ConntrackEntry, State};
use lb_common::filter::Position;
use lb_common::fragment::Fragmented;
use lb_common::service::{Frontend, FrontendRow, IpPolicy};
use lb_common::settings::Settings;
use lb_common::source_range::SourceRange;

use crate::world::{FibResult, InsertError, RateLimit, Table};

/// One question of a walk with its answer, or one write.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a, A: Address> {
    /// Looked up a frontend.
    Frontend(&'a Frontend<A>, Option<&'a FrontendRow>),
    /// Looked up the policy of an address.
    IpPolicy(&'a A, Option<IpPolicy>),
    /// Compared an address with the range that covers all cluster IPs and service CIDRs.
    InServiceRanges(&'a A, bool),
    /// Looked an address up among the ranges of a Service port, or among the service CIDRs.
    SourceAllowed(&'a SourceRange<A>, bool),
    /// Read a slot.
    Slot(u32, Option<BackendId>),
    /// Read a backend's row.
    Backend(BackendId, Option<&'a Backend<A>>),
    /// Asked the filter.
    Filter(Position, bool),
    /// Read the settings.
    Settings(&'a Settings),
    /// Looked up a conntrack entry.
    Lookup(Table, &'a Tuple<A>, Option<&'a ConntrackEntry<A>>),
    /// Looked whether the entry of the first tuple is of the flow that has another one under the second.
    HasMapping(Table, &'a Tuple<A>, &'a Tuple<A>, bool),
    /// Inserted a conntrack entry.
    Insert(Table, &'a Tuple<A>, &'a ConntrackEntry<A>, Result<(), InsertError>),
    /// Changed the state of an entry.
    SetState(Table, &'a Tuple<A>, State),
    /// Changed what packets of an entry are expected to carry.
    SetExpected(Table, &'a Tuple<A>, u32),
    /// Removed an entry.
    Remove(Table, &'a Tuple<A>),
    /// Looked up what a client got last.
    Affinity(&'a Client<A>, Option<&'a Affinity>),
    /// Remembered what a client got, or found that another CPU has.
    SetAffinity(&'a Client<A>, &'a Affinity, bool),
    /// Looked up a packet in fragments; whether anything is known of it.
    Fragment(&'a Fragmented<A>, bool),
    /// Looked up a route.
    Fib(&'a A, FibResult),
    /// Took the source address of packets that leave by a device.
    SourceAddress(u32, &'a A),
    /// Asked a rate limit.
    RateLimit(RateLimit, bool),
    /// Looked for a local socket.
    SocketExists(&'a Tuple<A>, bool),
}

/// Takes the steps of walks.
pub trait Tracer<A: Address> {
    /// Takes one step.
    fn step(&self, step: Step<'_, A>);
}

impl<A: Address, T: Tracer<A>> Tracer<A> for &T {
    #[inline(always)]
    fn step(&self, step: Step<'_, A>) {
        (**self).step(step);
    }
}
