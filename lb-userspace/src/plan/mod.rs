//! What the node's tables should hold.
//!
//! [`plan`] is pure and cannot fail: what it cannot honour it leaves out and says so in a
//! [`Warning`]. It gives every Service port and backend the id it has in the tables already, so a
//! restart, a retry and a change are all the same: plan, [`crate::maps::diff`], write.

mod addresses;
mod eligible;
mod family;
mod frontends;
mod health_checks;
mod ids;
mod node;
mod pools;
mod ports;
mod source_ranges;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use lb_common::address::{Address, V4, V6};
use lb_common::device::Device;
use lb_common::filter::{self, Position};
use lb_common::maps::{self, Capacities, Map};
use lb_common::service::{ServiceId, ServiceLabel};

use self::family::{Family, Ground};
use self::frontends::Claims;
use self::pools::Pools;
use self::ports::{Endpoints, Port};
use crate::maps::contents::InContents;
use crate::maps::{BackendSet, Contents, FamilyContents, size_flag};
use crate::model::{Cluster, LocalNode, Sockets, SourcePorts, Warning};

pub use self::health_checks::health_checks;

/// What the operator decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The addresses of this node that answer on node ports.
    pub nodeport_addresses: NodePortAddresses,
    /// How much the maps take.
    pub capacities: Capacities,
    /// Whether Services answer at their external IPs.
    pub honours_external_ips: bool,
    /// The ports that translated flows may take as their source.
    pub snat_ports: SourcePorts,
    /// Whose sockets are balanced.
    pub sockets: Sockets,
}

/// The addresses of this node that answer on node ports; loopback addresses never do.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum NodePortAddresses {
    /// In each family the first address of the Node object or, where it has none, the first one of
    /// the first network device that has one.
    #[default]
    Primary,
    /// Those of the devices' addresses that lie within one of these ranges. A family that no range
    /// belongs to is not restricted, as kube-proxy's `--nodeport-addresses`.
    Within(Vec<IpNet>),
}

/// What the tables should hold, and what is missing in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// What the tables should hold.
    pub contents: Contents,
    /// What could not be honoured, sorted.
    pub warnings: Vec<Warning>,
    /// Something was left out or made smaller for want of room. Once this plan is written and what
    /// it replaces is gone there may be more: plan again.
    pub crowded: bool,
}

/// What the tables should hold for `cluster`, seen from `here`, given that they hold `before`, of
/// which the retired backends `unreferenced` are known to have no connection.
#[must_use]
pub fn plan(
    cluster: &Cluster,
    here: &LocalNode,
    settings: &Settings,
    before: &Contents,
    unreferenced: &BackendSet,
) -> Plan {
    let given = Given { cluster, here, settings, before };
    let mut missing = Missing::default();
    let ports = ports::balanced(cluster, settings.honours_external_ips, &mut missing.warnings);
    let v4 = claims::<V4>(&given, &ports, &mut missing);
    let v6 = claims::<V6>(&given, &ports, &mut missing);
    let ground = Ground {
        ids: service_ids(&given, &ports, &[ports_of(&v4), ports_of(&v6)], &mut missing),
        ports,
        endpoints: Endpoints::of(cluster),
        place: node::place(cluster, here),
    };
    let mut pools = Pools::of(before, settings.capacities.slots);
    let free = if unreferenced.is_empty() {
        BackendSet::default()
    } else {
        before.retired().among(unreferenced)
    };
    let v4 = rows(&given, &ground, &v4, &free, &mut pools, &mut missing);
    let v6 = rows(&given, &ground, &v6, &free, &mut pools, &mut missing);
    if pools.is_short {
        missing.room(&given, &maps::SLOTS, pools.needed);
    }
    let contents = Contents {
        services: labels(&ground, before, &v4, &v6),
        filter: filter_words(&v4, &v6),
        v4,
        v6,
        slots: pools.settle(),
        devices: devices(&given, &mut missing),
        settings: addresses::settings(cluster, here, settings),
    };
    missing.in_plan(contents)
}

/// What a plan is made from.
#[derive(Clone, Copy)]
struct Given<'a> {
    cluster: &'a Cluster,
    here: &'a LocalNode,
    settings: &'a Settings,
    before: &'a Contents,
}

/// What is left out of a plan.
#[derive(Default)]
struct Missing {
    warnings: Vec<Warning>,
    is_crowded: bool,
}

impl Missing {
    /// `map` has not the room for the `needed` entries.
    fn room(&mut self, given: &Given<'_>, map: &Map, needed: u64) {
        let room = given.settings.capacities.entries(map.capacity);
        let next = match size_flag(map.capacity) {
            Some(flag) => format!("restart weir with {flag} {needed} or more"),
            None if [&maps::SRC_RANGES.v4, &maps::SRC_RANGES.v6].contains(&map) => {
                "its size is fixed, so have fewer loadBalancerSourceRanges, which count once per port \
                 of a Service"
                    .to_owned()
            }
            None => "its size is fixed, so have fewer of them on this node".to_owned(),
        };
        self.is_crowded = true;
        self.warnings.push(Warning {
            about: format!("Node {}", given.here.name),
            text: format!("{} has room for {room} entries of {needed}: {next}", map.name),
        });
    }

    fn in_plan(mut self, contents: Contents) -> Plan {
        self.warnings.sort_unstable();
        self.warnings.dedup();
        Plan { contents, warnings: self.warnings, crowded: self.is_crowded }
    }
}

fn claims<A: InContents>(
    given: &Given<'_>,
    ports: &[Port<'_>],
    missing: &mut Missing,
) -> Claims<A> {
    let which = &given.settings.nodeport_addresses;
    let nodes = node::nodeport_addresses(given.cluster, given.here, which);
    if nodes.is_empty() && ports.iter().any(|port| port.has_node_port::<A>()) {
        missing.warnings.push(Warning {
            about: format!("Node {}", given.here.name),
            text: format!(
                "node ports answer at no {} address, for none is known: give a network device one, \
                 or see --nodeport-addresses",
                A::FAMILY
            ),
        });
    }
    let honours = given.settings.honours_external_ips;
    let mut claims = frontends::claimed(ports, &nodes, honours, &mut missing.warnings);
    let (needed, before) = (claims.len() as u64, &A::rows(given.before).frontends);
    if frontends::fit(&mut claims, before, given.settings.capacities.frontends) {
        missing.room(given, maps::FRONTENDS.of(A::FAMILY), needed);
    }
    claims
}

fn ports_of<A>(claims: &Claims<A>) -> BTreeSet<usize> {
    claims.values().map(|claim| claim.port).collect()
}

/// The id of each of `ports` that is among those of a family.
fn service_ids(
    given: &Given<'_>,
    ports: &[Port<'_>],
    in_families: &[BTreeSet<usize>; 2],
    missing: &mut Missing,
) -> Vec<Option<ServiceId>> {
    let mut services = ids::Services::of(given.before, given.settings.capacities.services);
    let mut needed = 0;
    let mut refused = false;
    let mut id = |(index, port): (usize, &Port<'_>)| {
        if !in_families.iter().any(|family| family.contains(&index)) {
            return None;
        }
        needed += 1;
        let id = services.id(&port.label);
        refused |= id.is_none();
        id
    };
    let ids = ports.iter().enumerate().map(&mut id).collect();
    if refused {
        missing.room(given, &maps::SERVICES, needed);
    }
    ids
}

fn rows<A: InContents>(
    given: &Given<'_>,
    ground: &Ground<'_>,
    claims: &Claims<A>,
    free: &BackendSet,
    pools: &mut Pools<'_>,
    missing: &mut Missing,
) -> FamilyContents<A> {
    let mut family = Family::of(ground, A::rows(given.before), given.settings.capacities.backends);
    family.add(claims, pools);
    if let Some(needed) = family.backends_needed() {
        missing.room(given, maps::BACKENDS.of(A::FAMILY), needed);
    }
    let mut rows = family.settle(A::ids(free));
    rows.ip_policies = addresses::rows(given.cluster, given.here, claims);
    rows.source_ranges.extend(source_ranges::of_cluster::<A>(given.cluster));
    fit_closed(given, &mut rows, missing);
    rows
}

/// Leaves out what the tables of addresses and ranges have no room for.
fn fit_closed<A: InContents>(
    given: &Given<'_>,
    rows: &mut FamilyContents<A>,
    missing: &mut Missing,
) {
    let before = A::rows(given.before);
    let room = |map: &Map| given.settings.capacities.entries(map.capacity);
    let (map, needed) = (maps::IP_POLICY.of(A::FAMILY), rows.ip_policies.len() as u64);
    if addresses::fit(&mut rows.ip_policies, &before.ip_policies, room(map)) {
        missing.room(given, map, needed);
    }
    let (map, needed) = (maps::SRC_RANGES.of(A::FAMILY), rows.source_ranges.len() as u64);
    if source_ranges::fit(&mut rows.source_ranges, &before.source_ranges, room(map)) {
        missing.room(given, map, needed);
    }
}

/// The labels of all Service ports that are balanced, and of those that retired backends belong to:
/// an id is not given to another while a row bears it.
fn labels(
    ground: &Ground<'_>,
    before: &Contents,
    v4: &FamilyContents<V4>,
    v6: &FamilyContents<V6>,
) -> BTreeMap<ServiceId, ServiceLabel> {
    let labelled = ground.ids.iter().zip(&ground.ports);
    let mut labels: BTreeMap<ServiceId, ServiceLabel> =
        labelled.filter_map(|(id, port)| Some(((*id)?, port.label))).collect();
    for id in v4.services().chain(v6.services()) {
        if let Some(label) = before.services.get(&id) {
            labels.entry(id).or_insert(*label);
        }
    }
    labels
}

fn filter_words(v4: &FamilyContents<V4>, v6: &FamilyContents<V6>) -> BTreeMap<u32, u64> {
    let mut words = BTreeMap::new();
    for position in positions(v4).chain(positions(v6)) {
        *words.entry(position.word).or_insert(0) |= position.mask;
    }
    words
}

fn positions<A: Address>(rows: &FamilyContents<A>) -> impl Iterator<Item = Position> {
    let frontends = rows.frontends.keys();
    let frontends = frontends.map(|f| filter::position(&f.address, f.port, f.protocol));
    let backends = rows.backends.values();
    frontends.chain(backends.map(|b| filter::position(&b.address, b.port, b.protocol)))
}

fn devices(given: &Given<'_>, missing: &mut Missing) -> BTreeMap<u32, Device> {
    let room = given.settings.capacities.entries(maps::DEVICES.capacity);
    let devices = node::devices(given.cluster, given.here, room as usize);
    if devices.len() < given.here.devices.len() {
        missing.room(given, &maps::DEVICES, given.here.devices.len() as u64);
    }
    devices
}
