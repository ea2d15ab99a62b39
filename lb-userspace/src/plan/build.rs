//! Rows from objects, for all Services or some of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::address::{Address, V4, V6};
use lb_common::maps;
use lb_common::service::{IpPolicy, ServiceId, ServiceLabel};
use lb_common::source_range::LISTED;

use super::frontends::{self, Claims};
use super::index::{ClusterIndex, ContentsIndex, InIndex, Touched};
use super::omissions::{Context, Omissions};
use super::pools::Pools;
use super::rows::ids::Services;
use super::rows::{PlanInput, RowsBuilder};
use super::service_ports::{self, BalancedPort, Endpoints};
use super::{addresses, node, source_ranges};
use crate::maps::contents::InContents;
use crate::maps::{BackendSet, Contents, FamilyContents, FilterBits, References};
use crate::model::{Cluster, EndpointSlice, Name, Service, Warning};

/// The Services that a plan is about.
pub(super) struct Scope<'a> {
    /// Services by name, and whether each is planned, or is there because it claims what a planned one claims.
    services: Vec<(&'a Service, bool)>,
    slices: Vec<&'a EndpointSlice>,
    /// The addresses whose policies are planned; `None` for all, and for the service CIDRs.
    addresses: Option<&'a BTreeSet<IpAddr>>,
    /// Whether the rows of devices are planned.
    devices: bool,
}

impl<'a> Scope<'a> {
    /// All of `cluster`.
    pub(super) fn everything(cluster: &'a Cluster) -> Self {
        Self {
            services: cluster.services.values().map(|service| (&**service, true)).collect(),
            slices: cluster.slices.values().map(Box::as_ref).collect(),
            addresses: None,
            devices: true,
        }
    }

    /// What is in `touched`.
    pub(super) fn of(cluster: &'a Cluster, index: &ClusterIndex, touched: &'a Touched) -> Self {
        let service = |name: &Name| cluster.service(name);
        let planned: Vec<&Service> = touched.services.iter().filter_map(service).collect();
        let mut services: BTreeMap<&Name, (&Service, bool)> = BTreeMap::new();
        let rivals = planned.iter().flat_map(|service| index.rivals(service));
        services.extend(rivals.filter_map(service).map(|rival| (&rival.name, (rival, false))));
        services.extend(planned.iter().map(|service| (&service.name, (*service, true))));
        let slices = planned.iter().flat_map(|service| index.slices(&service.name, cluster));
        Self {
            slices: slices.collect(),
            services: services.into_values().collect(),
            addresses: Some(&touched.addresses),
            devices: touched.devices,
        }
    }
}

/// What the maps hold of what is touched.
pub(super) fn rows_of(
    touched: &Touched,
    contents: &Contents,
    contents_index: &ContentsIndex,
    unreferenced: &FilterBits,
) -> Contents {
    let mut before = contents_index.rows_of(touched.services.iter(), contents);
    before.v4.ip_policies = policies_of(&contents.v4.ip_policies, &touched.addresses);
    before.v6.ip_policies = policies_of(&contents.v6.ip_policies, &touched.addresses);
    before.settings = contents.settings;
    if touched.devices {
        before.devices = contents.devices.clone();
    }
    let words = unreferenced.words();
    before.filter = words.filter_map(|word| Some((word, *contents.filter.get(&word)?))).collect();
    before
}

fn policies_of<A: Address>(
    all: &BTreeMap<A, IpPolicy>,
    addresses: &BTreeSet<IpAddr>,
) -> BTreeMap<A, IpPolicy> {
    let ours = addresses.iter().filter_map(|ip| A::from_ip(*ip));
    ours.filter_map(|address| Some((address, *all.get(&address)?))).collect()
}

/// The rows of what is in `scope`, and whether a pool is missing or smaller than by default.
pub(super) fn build(
    context: &Context<'_>,
    scope: &Scope<'_>,
    unreferenced: &References,
    omissions: &mut Omissions,
) -> (Contents, bool) {
    let honours = context.settings.honours_external_ips;
    let services = scope.services.iter().copied();
    let ports = service_ports::balanced(services, honours, &mut omissions.warnings);
    let v4 = claims::<V4>(context, &ports, omissions);
    let v6 = claims::<V6>(context, &ports, omissions);
    let input = PlanInput {
        ids: service_ids(context, &ports, &[ports_of(&v4), ports_of(&v6)], omissions),
        ports,
        endpoints: Endpoints::of(scope.slices.iter().copied()),
        own: node::own_addresses(context.local_node),
        topology: node::topology(context.cluster, context.local_node),
    };
    let capacity = context.settings.capacities.slots;
    let mut pools = Pools::of(context.before, context.contents_index.unused_slots(), capacity);
    let free = context.contents_index.retired_among(&unreferenced.backends, context.contents);
    let mut v4 = rows(context, &input, &v4, &free, &mut pools, omissions);
    let mut v6 = rows(context, &input, &v6, &free, &mut pools, omissions);
    add_addresses(context, scope, &mut v4, omissions);
    add_addresses(context, scope, &mut v6, omissions);
    let is_short = pools.is_short;
    omissions.is_left_out |= pools.is_missing;
    if is_short && scope.addresses.is_none() {
        omissions.warn_of_size(context, &maps::SLOTS, pools.needed);
    }
    let devices =
        if scope.devices { node::device_rows(context, omissions) } else { BTreeMap::new() };
    let contents = Contents {
        services: labels(&input, context.before, &v4, &v6),
        filter: filter(&context.before.filter, &unreferenced.filter, &v4, &v6),
        v4,
        v6,
        slots: pools.into_slots(),
        devices,
        settings: addresses::settings(context),
    };
    (contents, is_short)
}

/// Adds the rows of addresses, and of the service CIDRs where everything is planned.
fn add_addresses<A: InContents>(
    context: &Context<'_>,
    scope: &Scope<'_>,
    rows: &mut FamilyContents<A>,
    omissions: &mut Omissions,
) {
    rows.ip_policies = addresses::rows(context, scope.addresses);
    if scope.addresses.is_none() {
        let cidrs = source_ranges::of_cluster::<A>(context.cluster).into_iter();
        rows.source_ranges.extend(cidrs.map(|range| (range, LISTED)));
    }
    fit_policies_and_ranges(context, rows, omissions);
}

fn claims<A: InContents>(
    context: &Context<'_>,
    ports: &[BalancedPort<'_>],
    omissions: &mut Omissions,
) -> Claims<A> {
    let nodes = node::nodeport_addresses::<A>(context);
    if nodes.is_empty() && context.index.has_node_ports(A::FAMILY) {
        omissions.warnings.push(Warning {
            about: format!("Node {}", context.local_node.name),
            text: format!(
                "node ports are not served in {}, because this node has no such address: give a network \
                 device one, or see --nodeport-addresses",
                A::FAMILY
            ),
        });
    }
    let honours = context.settings.honours_external_ips;
    let mut claims: Claims<A> = frontends::claimed(ports, &nodes, honours, &mut omissions.warnings);
    claims.retain(|frontend, claim| {
        let is_planned = ports.get(claim.port).is_some_and(|port| port.is_planned);
        is_planned && !context.settings.skip.has(frontend.address.to_ip())
    });
    let map = maps::FRONTENDS.of(A::FAMILY);
    let (needed, before) = (claims.len() as u64, &A::rows(context.before).frontends);
    let room = context.room(map, A::rows(context.contents).frontends.len());
    if frontends::fit(&mut claims, before, room) {
        omissions.add_full_map(context, map, needed);
    }
    claims
}

fn ports_of<A>(claims: &Claims<A>) -> BTreeSet<usize> {
    claims.values().map(|claim| claim.port).collect()
}

/// The id of each of `ports`; `None` for a port that has no frontend in either family.
fn service_ids(
    context: &Context<'_>,
    ports: &[BalancedPort<'_>],
    in_families: &[BTreeSet<usize>; 2],
    omissions: &mut Omissions,
) -> Vec<Option<ServiceId>> {
    let room = context.room(&maps::SERVICES, context.contents.services.len());
    let unused = context.contents_index.unused_ids();
    let mut services = Services::of(context.before, unused, room);
    let mut needed = 0;
    let mut refused = false;
    let mut id = |(index, port): (usize, &BalancedPort<'_>)| {
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
        omissions.add_full_map(context, &maps::SERVICES, needed);
    }
    ids
}

fn rows<A: InIndex>(
    context: &Context<'_>,
    input: &PlanInput<'_>,
    claims: &Claims<A>,
    free: &BackendSet,
    pools: &mut Pools<'_>,
    omissions: &mut Omissions,
) -> FamilyContents<A> {
    let index = A::index(context.contents_index);
    let capacity = context.settings.capacities.backends;
    let mut family = RowsBuilder::new(input, A::rows(context.before), index, capacity);
    family.add(claims, pools);
    if let Some(needed) = family.backends_needed() {
        omissions.add_full_map(context, maps::BACKENDS.of(A::FAMILY), needed);
    }
    family.into_rows(A::ids(free))
}

/// Leaves out the IP policies and source ranges that their maps cannot hold.
fn fit_policies_and_ranges<A: InContents>(
    context: &Context<'_>,
    rows: &mut FamilyContents<A>,
    omissions: &mut Omissions,
) {
    let (before, all) = (A::rows(context.before), A::rows(context.contents));
    let (map, needed) = (maps::IP_POLICY.of(A::FAMILY), rows.ip_policies.len() as u64);
    let room = context.room(map, all.ip_policies.len());
    if addresses::fit(&mut rows.ip_policies, &before.ip_policies, room) {
        omissions.add_full_map(context, map, needed);
    }
    let (map, needed) = (maps::SRC_RANGES.of(A::FAMILY), rows.source_ranges.len() as u64);
    let room = context.room(map, all.source_ranges.len());
    if source_ranges::fit(&mut rows.source_ranges, &before.source_ranges, room) {
        omissions.add_full_map(context, map, needed);
    }
}

/// The labels of all balanced Service ports, and of those with retired backends: an id is not reused
/// while a row refers to it.
fn labels(
    input: &PlanInput<'_>,
    before: &Contents,
    v4: &FamilyContents<V4>,
    v6: &FamilyContents<V6>,
) -> BTreeMap<ServiceId, ServiceLabel> {
    let labelled = input.ids.iter().zip(&input.ports);
    let mut labels: BTreeMap<ServiceId, ServiceLabel> =
        labelled.filter_map(|(id, port)| Some(((*id)?, port.label))).collect();
    for id in v4.services().chain(v6.services()) {
        if let Some(label) = before.services.get(&id) {
            labels.entry(id).or_insert(*label);
        }
    }
    labels
}

/// The words of the filter in `before`, with the bits that rows need, and without those that flows no longer need.
fn filter(
    before: &BTreeMap<u32, u64>,
    unreferenced: &FilterBits,
    v4: &FamilyContents<V4>,
    v6: &FamilyContents<V6>,
) -> BTreeMap<u32, u64> {
    let mut words = before.clone();
    for (word, bits) in &mut words {
        *bits &= !unreferenced.word(*word);
    }
    for position in v4.positions().chain(v6.positions()) {
        *words.entry(position.word).or_default() |= position.mask;
    }
    words.retain(|_, bits| *bits != 0);
    words
}
