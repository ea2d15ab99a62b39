//! One address family's rows: for each Service port its backends, the pools of backends for new flows,
//! and the frontends.

pub(super) mod ids;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use lb_common::address::{Address, Port};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::Ticks;
use lb_common::hash;
use lb_common::service::{EmptyPoolReason, Frontend, FrontendRow, Pool, ServiceId, SourceClass};
use lb_common::source_range::{LISTED, SourceRange};

use self::ids::Backends;
use super::eligible::{NodeTopology, eligible, policies};
use super::frontends::{Claims, FrontendKind};
use super::index::FamilyIndex;
use super::pools::{Member, Pools};
use super::service_ports::{BalancedPort, Endpoints};
use super::source_ranges;
use crate::maps::FamilyContents;
use crate::model::{Affinity, Service, TrafficPolicy};

/// What the rows of both families are made from.
pub(super) struct PlanInput<'a> {
    pub(super) ports: Vec<BalancedPort<'a>>,
    /// The id of each of `ports`, if it has one.
    pub(super) ids: Vec<Option<ServiceId>>,
    pub(super) endpoints: Endpoints<'a>,
    pub(super) topology: NodeTopology<'a>,
    /// This node's addresses.
    pub(super) own: BTreeSet<IpAddr>,
}

/// Builds the rows of one family.
pub(super) struct RowsBuilder<'a, A> {
    input: &'a PlanInput<'a>,
    before: &'a FamilyContents<A>,
    /// The pools that each Service port has in `before`.
    old_pools: HashMap<ServiceId, Vec<Pool>>,
    frontends: BTreeMap<Frontend<A>, FrontendRow>,
    backends: Backends<'a, A>,
    source_ranges: BTreeSet<SourceRange<A>>,
}

/// A Service port's backends, in the order of their addresses.
struct ServiceBackends {
    members: Vec<Member>,
    /// Indexes of those that a new flow may get under the traffic policy Cluster.
    for_cluster: Vec<usize>,
    /// The same under Local.
    for_local: Vec<usize>,
}

impl<'a, A: Address> RowsBuilder<'a, A> {
    /// Starts from the rows of `before`, with a map of `capacity` backends. All rows are in `index`.
    pub(super) fn new(
        input: &'a PlanInput<'a>,
        before: &'a FamilyContents<A>,
        index: &'a FamilyIndex<A>,
        capacity: u32,
    ) -> Self {
        let mut old_pools: HashMap<_, Vec<Pool>> = HashMap::new();
        for (service, pool) in before.pools() {
            let pools = old_pools.entry(service).or_default();
            if !pools.contains(&pool) {
                pools.push(pool);
            }
        }
        Self {
            input,
            before,
            old_pools,
            frontends: BTreeMap::new(),
            backends: Backends::of(before, index, capacity),
            source_ranges: BTreeSet::new(),
        }
    }

    /// Adds the rows that `claims` need.
    pub(super) fn add(&mut self, claims: &Claims<A>, pools: &mut Pools<'_>) {
        let mut by_port: BTreeMap<usize, Vec<(Frontend<A>, FrontendKind)>> = BTreeMap::new();
        for (frontend, claim) in claims {
            by_port.entry(claim.port).or_default().push((*frontend, claim.kind));
        }
        for (index, frontends) in by_port {
            let (port, id) = (self.input.ports.get(index), self.input.ids.get(index));
            if let (Some(port), Some(Some(id))) = (port, id) {
                self.add_port(port, *id, &frontends, pools);
            }
        }
    }

    fn add_port(
        &mut self,
        port: &BalancedPort<'_>,
        id: ServiceId,
        frontends: &[(Frontend<A>, FrontendKind)],
        pools: &mut Pools<'_>,
    ) {
        let backends = self.service_backends(port, id);
        let mut port_pools = PortPools {
            backends: &backends,
            old_pools: self.old_pools.get(&id).map_or(&[], Vec::as_slice),
            made: Vec::new(),
        };
        let restriction = source_ranges::restriction(port.service, id);
        for (frontend, kind) in frontends {
            let policies = policies(port.service, *kind);
            let mut wanted = policies.map(|policy| port_pools.pool(policy, pools));
            if frontend.address.to_ip().is_loopback() {
                // For this node's own processes. No packet comes from others to such an address by right.
                let nothing = Some(Pool::empty(EmptyPoolReason::NoLocalEndpoint));
                wanted[SourceClass::Pod as usize] = nothing;
                wanted[SourceClass::Network as usize] = nothing;
            }
            let before = self.before.frontends.get(frontend).filter(|row| row.service == id);
            if let Some(pools) = or_as_before(wanted, before, pools) {
                let restriction =
                    restriction.as_ref().filter(|_| *kind == FrontendKind::LoadBalancer);
                let is_own = *kind == FrontendKind::ClusterIp
                    && self.input.own.contains(&frontend.address.to_ip());
                let sockets_first = if is_own { FrontendRow::SOCKETS_FIRST } else { 0 };
                let flags = flags(policies, restriction.is_some()) | sockets_first;
                let affinity = affinity(port.service);
                let row = FrontendRow { service: id, pools, affinity, flags };
                self.frontends.insert(*frontend, row);
                self.source_ranges.extend(restriction.into_iter().flatten());
            }
        }
    }

    /// Every endpoint that is ready or serving has a row, whether a pool contains it or not, so that a
    /// backend's row does not depend on policies and hints.
    fn service_backends(&mut self, port: &BalancedPort<'_>, id: ServiceId) -> ServiceBackends {
        let (mut endpoints, mut members) = (Vec::new(), Vec::new());
        for (at, endpoint) in self.input.endpoints.of_port::<A>(port) {
            let serves = endpoint.ready || endpoint.serving;
            // An endpoint that was written by hand may name no node. What is sent to the node's own address goes into its
            // stack all the same; the traffic policy Local goes by names.
            let is_local = self.input.topology.has_endpoint(endpoint)
                || self.input.own.contains(&endpoint.address);
            let protocol = port.port.protocol;
            if serves && let Some(id) = self.backends.serve(id, at, protocol, is_local) {
                endpoints.push(endpoint);
                members.push(Member { id, key: key(at) });
            }
        }
        let mut allowed = |policy, flag| {
            let eligible = eligible(&endpoints, policy, &self.input.topology);
            let allowed = eligible.iter().filter_map(|index| members.get(*index));
            allowed.for_each(|member| self.backends.allow(member.id, flag));
            eligible
        };
        ServiceBackends {
            for_cluster: allowed(TrafficPolicy::Cluster, Backend::<A>::FOR_CLUSTER),
            for_local: allowed(TrafficPolicy::Local, Backend::<A>::FOR_LOCAL),
            members,
        }
    }

    /// How many entries the map of backends would need, if it is full.
    pub(super) fn backends_needed(&self) -> Option<u64> {
        self.backends.needed()
    }

    /// The rows, without the backends in `free`.
    pub(super) fn into_rows(self, free: &BTreeSet<BackendId>) -> FamilyContents<A> {
        FamilyContents {
            frontends: self.frontends,
            backends: self.backends.into_rows(free),
            ip_policies: BTreeMap::new(),
            source_ranges: self.source_ranges.into_iter().map(|range| (range, LISTED)).collect(),
        }
    }
}

/// The session affinity timeout of `service` in ticks; 0 for none.
fn affinity(service: &Service) -> u32 {
    match service.affinity {
        Affinity::None => 0,
        Affinity::ClientIp { timeout_seconds } => Ticks::of_seconds(timeout_seconds),
    }
}

/// The flags of a row with these policies, in the order of [`SourceClass::ALL`].
fn flags(policies: [TrafficPolicy; 3], is_restricted: bool) -> u32 {
    let restricted = if is_restricted { FrontendRow::RESTRICTED } else { 0 };
    let classes = SourceClass::ALL.into_iter().zip(policies);
    let local = classes.filter(|(_, policy)| *policy == TrafficPolicy::Local);
    local.fold(restricted, |flags, (class, _)| flags | FrontendRow::LOCAL << class as u32)
}

/// The key from which a backend's slots follow, the same on every node.
fn key<A: Address>((address, port): (A, Port)) -> u64 {
    match address.to_ip() {
        IpAddr::V4(ip) => hash::bytes(port.number().into(), &ip.octets()),
        IpAddr::V6(ip) => hash::bytes(port.number().into(), &ip.octets()),
    }
}

/// `wanted`, and where the slot array is full, the frontend's pool from `before`: stale slots are better
/// than none. `None` if it had none either.
fn or_as_before(
    wanted: [Option<Pool>; 3],
    before: Option<&FrontendRow>,
    pools: &mut Pools<'_>,
) -> Option<[Pool; 3]> {
    let mut row = [Pool::empty(EmptyPoolReason::NoEndpoint); 3];
    for ((pool, wanted), class) in row.iter_mut().zip(wanted).zip(SourceClass::ALL) {
        *pool = match wanted {
            Some(wanted) => wanted,
            None => before?.pool(class),
        };
        if wanted.is_none() && pool.length > 0 {
            pools.keep(*pool)?;
        }
    }
    Some(row)
}

/// The pools of one Service port, each set of backends once.
struct PortPools<'a> {
    backends: &'a ServiceBackends,
    old_pools: &'a [Pool],
    made: Vec<(TrafficPolicy, Option<Pool>)>,
}

impl PortPools<'_> {
    /// The pool under `policy`, empty with its reason if no backend is eligible; `None` if the slot array
    /// is full.
    fn pool(&mut self, policy: TrafficPolicy, pools: &mut Pools<'_>) -> Option<Pool> {
        if let Some((_, pool)) = self.made.iter().find(|(made_for, _)| *made_for == policy) {
            return *pool;
        }
        let eligible = self.eligible(policy);
        let pool = match self.made.iter().find(|(other, _)| self.eligible(*other) == eligible) {
            _ if eligible.is_empty() => Some(Pool::empty(self.empty_reason(policy))),
            Some((_, pool)) => *pool,
            None => {
                let member = |index: &usize| self.backends.members.get(*index).copied();
                let members: Vec<Member> = eligible.iter().filter_map(member).collect();
                pools.pool(self.old_pools, &members)
            }
        };
        self.made.push((policy, pool));
        pool
    }

    fn eligible(&self, policy: TrafficPolicy) -> &[usize] {
        match policy {
            TrafficPolicy::Cluster => &self.backends.for_cluster,
            TrafficPolicy::Local => &self.backends.for_local,
        }
    }

    fn empty_reason(&self, policy: TrafficPolicy) -> EmptyPoolReason {
        if policy == TrafficPolicy::Local && !self.backends.for_cluster.is_empty() {
            EmptyPoolReason::NoLocalEndpoint
        } else {
            EmptyPoolReason::NoEndpoint
        }
    }
}
