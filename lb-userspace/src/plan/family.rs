//! One address family's rows: for each Service port its backends, the pools of those a new flow may
//! get, and the frontends that lead to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use lb_common::address::{Address, Port};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::Ticks;
use lb_common::hash;
use lb_common::service::{EmptyPoolReason, Frontend, FrontendRow, Pool, ServiceId, SourceClass};
use lb_common::source_range::SourceRange;

use super::eligible::{Place, Reach, eligible, policies};
use super::frontends::Claims;
use super::ids::Backends;
use super::pools::{Member, Pools};
use super::ports::{self, Endpoints};
use super::source_ranges;
use crate::maps::FamilyContents;
use crate::model::{Affinity, Service, TrafficPolicy};

/// What both families' rows are made from.
pub(super) struct Ground<'a> {
    pub(super) ports: Vec<ports::Port<'a>>,
    /// The id of each of `ports`, if it has one.
    pub(super) ids: Vec<Option<ServiceId>>,
    pub(super) endpoints: Endpoints<'a>,
    pub(super) place: Place<'a>,
}

/// A family's rows in the making.
pub(super) struct Family<'a, A> {
    ground: &'a Ground<'a>,
    before: &'a FamilyContents<A>,
    /// The pools that each Service port had.
    had: HashMap<ServiceId, Vec<Pool>>,
    frontends: BTreeMap<Frontend<A>, FrontendRow>,
    backends: Backends<A>,
    source_ranges: BTreeSet<SourceRange<A>>,
}

/// A Service port's backends, in the order of their addresses.
struct Behind {
    members: Vec<Member>,
    /// Which of them a new flow may get under the traffic policy Cluster.
    for_cluster: Vec<usize>,
    /// And under Local.
    for_local: Vec<usize>,
}

impl<'a, A: Address> Family<'a, A> {
    /// Begins with the rows of `before`, for a table of `capacity` backends.
    pub(super) fn of(ground: &'a Ground<'a>, before: &'a FamilyContents<A>, capacity: u32) -> Self {
        let mut had: HashMap<_, Vec<Pool>> = HashMap::new();
        for (service, pool) in before.pools() {
            let pools = had.entry(service).or_default();
            if !pools.contains(&pool) {
                pools.push(pool);
            }
        }
        Self {
            ground,
            before,
            had,
            frontends: BTreeMap::new(),
            backends: Backends::of(before, capacity),
            source_ranges: BTreeSet::new(),
        }
    }

    /// Adds the rows that `claims` need.
    pub(super) fn add(&mut self, claims: &Claims<A>, pools: &mut Pools<'_>) {
        let mut by_port: BTreeMap<usize, Vec<(Frontend<A>, Reach)>> = BTreeMap::new();
        for (frontend, claim) in claims {
            by_port.entry(claim.port).or_default().push((*frontend, claim.reach));
        }
        for (index, frontends) in by_port {
            let (port, id) = (self.ground.ports.get(index), self.ground.ids.get(index));
            if let (Some(port), Some(Some(id))) = (port, id) {
                self.add_port(port, *id, &frontends, pools);
            }
        }
    }

    fn add_port(
        &mut self,
        port: &ports::Port<'_>,
        id: ServiceId,
        frontends: &[(Frontend<A>, Reach)],
        pools: &mut Pools<'_>,
    ) {
        let behind = self.behind(port, id);
        let mut choice = Choice {
            behind: &behind,
            had: self.had.get(&id).map_or(&[], Vec::as_slice),
            made: Vec::new(),
        };
        let restriction = source_ranges::restriction(port.service, id);
        for (frontend, reach) in frontends {
            let policies = policies(port.service, *reach);
            let wanted = policies.map(|policy| choice.pool(policy, pools));
            let before = self.before.frontends.get(frontend).filter(|row| row.service == id);
            if let Some(pools) = or_as_before(wanted, before, pools) {
                let restriction = restriction.as_ref().filter(|_| *reach == Reach::LoadBalancer);
                let flags = flags(policies, restriction.is_some());
                let affinity = affinity(port.service);
                let row = FrontendRow { service: id, pools, affinity, flags };
                self.frontends.insert(*frontend, row);
                self.source_ranges.extend(restriction.into_iter().flatten());
            }
        }
    }

    /// Endpoints that take flows now or would if asked have a row, whether a pool names them or not:
    /// so what is known of a backend does not hang on policies and hints.
    fn behind(&mut self, port: &ports::Port<'_>, id: ServiceId) -> Behind {
        let (mut endpoints, mut members) = (Vec::new(), Vec::new());
        for (at, endpoint) in self.ground.endpoints.of_port::<A>(port) {
            let serves = endpoint.ready || endpoint.serving;
            let is_local = self.ground.place.has(endpoint);
            let protocol = port.port.protocol;
            if serves && let Some(id) = self.backends.serve(id, at, protocol, is_local) {
                endpoints.push(endpoint);
                members.push(Member { id, key: key(at) });
            }
        }
        let mut allowed = |policy, flag| {
            let eligible = eligible(&endpoints, policy, &self.ground.place);
            let allowed = eligible.iter().filter_map(|index| members.get(*index));
            allowed.for_each(|member| self.backends.allow(member.id, flag));
            eligible
        };
        Behind {
            for_cluster: allowed(TrafficPolicy::Cluster, Backend::<A>::FOR_CLUSTER),
            for_local: allowed(TrafficPolicy::Local, Backend::<A>::FOR_LOCAL),
            members,
        }
    }

    /// How many entries the table of backends would need, if it has not the room.
    pub(super) fn backends_needed(&self) -> Option<u64> {
        self.backends.needed()
    }

    /// The rows, without those backends that are `free` to go.
    pub(super) fn settle(self, free: &BTreeSet<BackendId>) -> FamilyContents<A> {
        FamilyContents {
            frontends: self.frontends,
            backends: self.backends.settle(free),
            ip_policies: BTreeMap::new(),
            source_ranges: self.source_ranges,
        }
    }
}

/// How long a client of `service` keeps its backend, in ticks.
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

/// What decides a backend's slots: on every node the same.
fn key<A: Address>((address, port): (A, Port)) -> u64 {
    match address.to_ip() {
        IpAddr::V4(ip) => hash::bytes(port.number().into(), &ip.octets()),
        IpAddr::V6(ip) => hash::bytes(port.number().into(), &ip.octets()),
    }
}

/// `wanted`, and where the array had no room, what the frontend had `before`: old slots are better
/// than none. `None` if there were none either.
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
struct Choice<'a> {
    behind: &'a Behind,
    had: &'a [Pool],
    made: Vec<(TrafficPolicy, Option<Pool>)>,
}

impl Choice<'_> {
    /// The pool under `policy`, or the verdict if it is empty; `None` if there is no room for it.
    fn pool(&mut self, policy: TrafficPolicy, pools: &mut Pools<'_>) -> Option<Pool> {
        if let Some((_, pool)) = self.made.iter().find(|(made_for, _)| *made_for == policy) {
            return *pool;
        }
        let chosen = self.chosen(policy);
        let pool = match self.made.iter().find(|(other, _)| self.chosen(*other) == chosen) {
            _ if chosen.is_empty() => Some(Pool::empty(self.verdict(policy))),
            Some((_, pool)) => *pool,
            None => {
                let member = |index: &usize| self.behind.members.get(*index).copied();
                let members: Vec<Member> = chosen.iter().filter_map(member).collect();
                pools.pool(self.had, &members)
            }
        };
        self.made.push((policy, pool));
        pool
    }

    fn chosen(&self, policy: TrafficPolicy) -> &[usize] {
        match policy {
            TrafficPolicy::Cluster => &self.behind.for_cluster,
            TrafficPolicy::Local => &self.behind.for_local,
        }
    }

    fn verdict(&self, policy: TrafficPolicy) -> EmptyPoolReason {
        if policy == TrafficPolicy::Local && !self.behind.for_cluster.is_empty() {
            EmptyPoolReason::NoLocalEndpoint
        } else {
            EmptyPoolReason::NoEndpoint
        }
    }
}
