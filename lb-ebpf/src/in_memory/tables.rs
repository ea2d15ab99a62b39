//! The rows that an agent would write, in plain collections.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::address::{Address, Family, V4, V6};
use lb_common::backend::{Backend, BackendId};
use lb_common::filter::{self, Position};
use lb_common::service::{Frontend, FrontendRow, IpPolicy};
use lb_common::settings::{Prefix, Settings};
use lb_common::snat::{self, TIERS};
use lb_common::source_range::SourceRange;

use crate::world::Tables;

/// The agent's rows in plain collections, for cases that need no agent.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Rows of IPv4.
    pub v4: FamilyRows<V4>,
    /// Rows of IPv6.
    pub v6: FamilyRows<V6>,
    /// Slots.
    pub slots: Vec<BackendId>,
    /// Source ports for SNAT.
    pub snat_tiers: [snat::Rows; TIERS],
    /// The ranges that cover all cluster IPs and service CIDRs.
    pub services: Option<(Prefix<V4>, Prefix<V6>)>,
    /// The node's own addresses, the source of its processes.
    pub own: Option<(V4, V6)>,
}

/// Rows of one family.
#[derive(Clone, Debug)]
pub struct FamilyRows<A> {
    /// Frontends.
    pub frontends: BTreeMap<Frontend<A>, FrontendRow>,
    /// Backends.
    pub backends: BTreeMap<BackendId, Backend<A>>,
    /// Policies of the addresses of Services and of the node.
    pub ip_policies: BTreeMap<A, IpPolicy>,
    /// Sources of restricted frontends, and the cluster's service CIDRs.
    pub source_ranges: BTreeSet<SourceRange<A>>,
}

impl<A: Address> Default for FamilyRows<A> {
    fn default() -> Self {
        Self {
            frontends: BTreeMap::new(),
            backends: BTreeMap::new(),
            ip_policies: BTreeMap::new(),
            source_ranges: BTreeSet::new(),
        }
    }
}

impl<A: Address> FamilyRows<A> {
    /// Positions of the filter's bits for these rows.
    pub fn positions(&self) -> impl Iterator<Item = Position> {
        let frontends = self.frontends.keys();
        let backends = self.backends.values();
        frontends
            .map(|f| filter::frontend(&f.address, f.port, f.protocol))
            .chain(backends.map(|b| filter::backend(&b.address, b.port, b.protocol)))
    }
}

impl Rows {
    /// Marks the backends of this number as no longer serving, in both families.
    pub fn retire(&mut self, number: u32) {
        if let Some(row) = self.v4.backends.get_mut(&BackendId(number)) {
            row.flags &= !Backend::<V4>::SERVING;
        }
        if let Some(row) = self.v6.backends.get_mut(&BackendId(number)) {
            row.flags &= !Backend::<V6>::SERVING;
        }
    }

    /// Rows of `A`'s family.
    fn of<A: Address>(&self) -> &FamilyRows<A> {
        // One of the two is of type `A`; the cast is checked.
        let rows: &dyn std::any::Any = match A::FAMILY {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        match rows.downcast_ref() {
            Some(rows) => rows,
            None => unreachable!("an address type is of its own family"),
        }
    }
}

impl<A: Address> Tables<A> for Rows {
    fn frontend(&self, frontend: &Frontend<A>) -> Option<FrontendRow> {
        self.of::<A>().frontends.get(frontend).copied()
    }

    fn ip_policy(&self, address: &A) -> Option<IpPolicy> {
        self.of::<A>().ip_policies.get(address).copied()
    }

    fn in_service_ranges(&self, address: &A) -> bool {
        let (v4, v6) = self.services.unwrap_or((Prefix::nothing(), Prefix::nothing()));
        let holds = (V4::from_ip(address.to_ip()).map(|a| v4.holds(&a)))
            .or(V6::from_ip(address.to_ip()).map(|a| v6.holds(&a)));
        holds.unwrap_or(false)
    }

    fn source_allowed(&self, source: &SourceRange<A>) -> bool {
        self.of::<A>().source_ranges.iter().any(|range| range.holds(source))
    }

    fn slot(&self, index: u32) -> Option<BackendId> {
        self.slots.get(index as usize).copied()
    }

    fn backend(&self, id: BackendId) -> Option<Backend<A>> {
        self.of::<A>().backends.get(&id).copied()
    }

    fn filter_matches(&self, position: Position) -> bool {
        self.v4.positions().chain(self.v6.positions()).any(|set| set == position)
    }

    fn settings(&self) -> Settings {
        let nothing = Settings::nothing();
        let none = (nothing.services_v4, nothing.services_v6);
        let (services_v4, services_v6) = self.services.unwrap_or(none);
        let (own_v4, own_v6) = self.own.unwrap_or((nothing.own_v4, nothing.own_v6));
        Settings {
            snat_tiers: self.snat_tiers,
            services_v4,
            services_v6,
            own_v4,
            own_v6,
            ..nothing
        }
    }
}
