//! What the maps of this node should hold.
//!
//! [`plan`] is pure and cannot fail: what it cannot honour it leaves out, with a [`Warning`]. Service
//! ports and backends keep the ids that they have in the maps, so a restart, a retry and a change are
//! all the same: plan, [`crate::maps::diff`], write.

mod addresses;
mod eligible;
mod frontends;
mod health_checks;
mod ids;
mod node;
mod omissions;
mod pools;
mod rows;
mod service_ports;
mod settings;
mod source_ranges;

use std::collections::{BTreeMap, BTreeSet};

use lb_common::address::{V4, V6};
use lb_common::maps::{self, Map};
use lb_common::service::{ServiceId, ServiceLabel};
use lb_common::source_range::LISTED;

use self::frontends::Claims;
use self::omissions::{Context, Omissions};
use self::pools::Pools;
use self::rows::{PlanInput, RowsBuilder};
use self::service_ports::{BalancedPort, Endpoints};
use crate::maps::contents::InContents;
use crate::maps::{BackendSet, Contents, FamilyContents, FilterBits, References};
use crate::model::{Cluster, LocalNode, Warning, missing_node};

pub use self::health_checks::health_checks;
pub use self::settings::{NodePortAddresses, Settings, Skip};

/// What the maps should hold, and what is left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// What the maps should hold.
    pub contents: Contents,
    /// What could not be honoured, sorted.
    pub warnings: Vec<Warning>,
    /// Something was left out or made smaller because a map is full. Writing this plan removes stale
    /// entries, so there may be space for more afterwards: plan again.
    pub is_map_full: bool,
}

/// What the maps of `local_node` should hold for `cluster`, where they hold `before` now. No conntrack
/// entry refers to the retired backends, and to the bits of the filter, in `unreferenced`.
///
/// ```
/// use lb_common::address::{Family, Protocol};
/// use lb_common::snat::{Rows, TIERS};
/// use lb_userspace::config::{TableSizes, capacities};
/// use lb_userspace::maps::{Contents, References, diff};
/// use lb_userspace::model::{
///     Affinity, Cluster, Endpoint, EndpointPort, EndpointSlice, LocalNode, Name, Service,
///     ServicePort, ServiceType, Sockets, TrafficPolicy,
/// };
/// use lb_userspace::plan::{NodePortAddresses, Settings, Skip, plan};
///
/// let (name, protocol) = (Name::new("default", "web"), Protocol::TCP);
/// let port = ServicePort { name: "http".into(), protocol, port: 80, node_port: None };
/// let service = Service {
///     name: name.clone(),
///     kind: ServiceType::ClusterIp,
///     cluster_ips: vec!["10.96.0.1".parse().unwrap()],
///     headless: false,
///     other_proxy: false,
///     ports: vec![port],
///     external_ips: Vec::new(),
///     load_balancer_ips: Vec::new(),
///     source_ranges: None,
///     internal_policy: TrafficPolicy::Cluster,
///     external_policy: TrafficPolicy::Cluster,
///     health_check_port: None,
///     affinity: Affinity::None,
///     selector: Default::default(),
/// };
/// let endpoint = Endpoint {
///     address: "10.244.1.7".parse().unwrap(),
///     ready: true,
///     serving: true,
///     terminating: false,
///     node: Some("node-1".into()),
///     zone_hints: Default::default(),
///     node_hints: Default::default(),
/// };
/// let slice = EndpointSlice {
///     name: name.clone(),
///     service: name.clone(),
///     family: Family::V4,
///     headless: false,
///     ports: vec![EndpointPort { name: "http".into(), protocol, port: 8080 }],
///     endpoints: vec![endpoint],
///     triggered: None,
/// };
/// let mut cluster = Cluster { synced: true, ..Cluster::default() };
/// cluster.services.insert(name.clone(), service);
/// cluster.slices.insert(name, slice);
///
/// let node = LocalNode { name: "node-1".into(), ..LocalNode::default() };
/// let settings = Settings {
///     nodeport_addresses: NodePortAddresses::Primary,
///     skip: Skip::default(),
///     capacities: capacities(TableSizes::default(), 4 << 30, 2),
///     honours_external_ips: false,
///     snat_tiers: [Rows::of_spans(60, 63); TIERS],
///     sockets: Sockets::default(),
/// };
/// let before = Contents::default();
/// let planned = plan(&cluster, &node, &settings, &before, &References::default());
/// assert!(planned.warnings.is_empty());
/// let lines = planned.contents.to_string();
/// assert!(lines.contains("frontend 10.96.0.1:80/tcp service 1"), "{lines}");
/// assert!(lines.contains("10.244.1.7:8080/tcp service 1 local"), "{lines}");
///
/// // Planned again over its own contents, nothing is to be written.
/// let again = plan(&cluster, &node, &settings, &planned.contents, &References::default());
/// assert!(diff(&planned.contents, &again.contents).is_empty());
/// ```
#[must_use]
pub fn plan(
    cluster: &Cluster,
    local_node: &LocalNode,
    settings: &Settings,
    before: &Contents,
    unreferenced: &References,
) -> Plan {
    let context = Context { cluster, local_node, settings, before };
    let mut omissions = Omissions::default();
    let ports =
        service_ports::balanced(cluster, settings.honours_external_ips, &mut omissions.warnings);
    let v4 = claims::<V4>(&context, &ports, &mut omissions);
    let v6 = claims::<V6>(&context, &ports, &mut omissions);
    let input = PlanInput {
        ids: service_ids(&context, &ports, &[ports_of(&v4), ports_of(&v6)], &mut omissions),
        ports,
        endpoints: Endpoints::of(cluster),
        own: node::own_addresses(local_node),
        topology: node::topology(cluster, local_node),
    };
    let mut pools = Pools::of(before, settings.capacities.slots);
    let free = if unreferenced.backends.is_empty() {
        BackendSet::default()
    } else {
        before.retired().among(&unreferenced.backends)
    };
    let v4 = rows(&context, &input, &v4, &free, &mut pools, &mut omissions);
    let v6 = rows(&context, &input, &v6, &free, &mut pools, &mut omissions);
    if pools.is_short {
        omissions.add_full_map(&context, &maps::SLOTS, pools.needed);
    }
    let contents = Contents {
        services: labels(&input, before, &v4, &v6),
        filter: filter(before, &unreferenced.filter, &v4, &v6).to_words(),
        v4,
        v6,
        slots: pools.into_slots(),
        devices: node::device_rows(&context, &mut omissions),
        settings: addresses::settings(cluster, local_node, settings),
    };
    let Omissions { mut warnings, is_map_full } = omissions;
    warnings.extend(missing_node(&local_node.name, cluster.nodes.keys().map(String::as_str)));
    warnings.sort_unstable();
    warnings.dedup();
    Plan { contents, warnings, is_map_full }
}

fn claims<A: InContents>(
    context: &Context<'_>,
    ports: &[BalancedPort<'_>],
    omissions: &mut Omissions,
) -> Claims<A> {
    let which = &context.settings.nodeport_addresses;
    let nodes = node::nodeport_addresses::<A>(context.cluster, context.local_node, which);
    if nodes.is_empty() && ports.iter().any(|port| port.has_node_port::<A>()) {
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
    claims.retain(|frontend, _| !context.settings.skip.has(frontend.address.to_ip()));
    let (needed, before) = (claims.len() as u64, &A::rows(context.before).frontends);
    if frontends::fit(&mut claims, before, context.settings.capacities.frontends) {
        omissions.add_full_map(context, maps::FRONTENDS.of(A::FAMILY), needed);
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
    let mut services = ids::Services::of(context.before, context.settings.capacities.services);
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

fn rows<A: InContents>(
    context: &Context<'_>,
    input: &PlanInput<'_>,
    claims: &Claims<A>,
    free: &BackendSet,
    pools: &mut Pools<'_>,
    omissions: &mut Omissions,
) -> FamilyContents<A> {
    let mut family =
        RowsBuilder::new(input, A::rows(context.before), context.settings.capacities.backends);
    family.add(claims, pools);
    if let Some(needed) = family.backends_needed() {
        omissions.add_full_map(context, maps::BACKENDS.of(A::FAMILY), needed);
    }
    let mut rows = family.into_rows(A::ids(free));
    rows.ip_policies = addresses::rows(context, claims);
    let cidrs = source_ranges::of_cluster::<A>(context.cluster).into_iter();
    rows.source_ranges.extend(cidrs.map(|range| (range, LISTED)));
    fit_policies_and_ranges(context, &mut rows, omissions);
    rows
}

/// Leaves out the IP policies and source ranges that their maps cannot hold.
fn fit_policies_and_ranges<A: InContents>(
    context: &Context<'_>,
    rows: &mut FamilyContents<A>,
    omissions: &mut Omissions,
) {
    let before = A::rows(context.before);
    let capacity = |map: &Map| context.settings.capacities.entries(map);
    let (map, needed) = (maps::IP_POLICY.of(A::FAMILY), rows.ip_policies.len() as u64);
    if addresses::fit(&mut rows.ip_policies, &before.ip_policies, capacity(map)) {
        omissions.add_full_map(context, map, needed);
    }
    let (map, needed) = (maps::SRC_RANGES.of(A::FAMILY), rows.source_ranges.len() as u64);
    if source_ranges::fit(&mut rows.source_ranges, &before.source_ranges, capacity(map)) {
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

/// The bits that rows need, and those that were set before for what flows may still go to or come from.
fn filter(
    before: &Contents,
    unreferenced: &FilterBits,
    v4: &FamilyContents<V4>,
    v6: &FamilyContents<V6>,
) -> FilterBits {
    let mut bits = FilterBits::of_words(&before.filter).without(unreferenced);
    v4.positions().chain(v6.positions()).for_each(|position| bits.add(position));
    bits
}
