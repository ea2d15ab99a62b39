//! What the maps of this node should hold.
//!
//! [`plan`] is pure and cannot fail: what it cannot honour it leaves out, with a [`Warning`]. Service
//! ports and backends keep the ids that they have in the maps, so a restart, a retry and a change are
//! all the same: plan, [`crate::maps::diff`], write. [`Planner::plan_touched`] is the same for the Services that
//! changes touched, and costs what they are.

mod addresses;
mod build;
mod eligible;
mod frontends;
mod health_checks;
mod index;
mod node;
mod omissions;
mod pools;
mod rows;
mod service_ports;
mod settings;
mod source_ranges;

use std::collections::BTreeSet;
use std::net::IpAddr;

use self::build::Scope;
use self::omissions::{Context, Omissions};
use lb_common::address::Address;

use crate::maps::{Contents, FamilyContents, References};
use crate::model::{Cluster, HealthChecks, LocalNode, Service, Warning, missing_node};

pub use self::index::{ClusterIndex, ContentsIndex, Touched};
pub use self::node::has_same_addresses;
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
    /// That is so, and it is not only that pools have fewer slots: plans of some Services would not do.
    pub is_left_out: bool,
}

/// What the maps should hold of some Services.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartialPlan {
    /// What they hold of them now.
    pub before: Contents,
    /// What they should hold of them.
    pub after: Contents,
    /// What could not be honoured of these Services, sorted.
    pub warnings: Vec<Warning>,
    /// What those warnings are about that held before and do not any more, unless they are among `warnings`.
    pub about: BTreeSet<String>,
}

/// What is known, to plan from.
#[derive(Clone, Copy, Debug)]
pub struct Planner<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The index of it.
    pub cluster_index: &'a ClusterIndex,
    /// This node.
    pub local_node: &'a LocalNode,
    /// The operator's settings.
    pub settings: &'a Settings,
    /// What the maps hold.
    pub contents: &'a Contents,
    /// The index of it.
    pub contents_index: &'a ContentsIndex,
    /// Retired backends, and bits of the filter, to which no conntrack entry refers.
    pub unreferenced: &'a References,
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
/// };
/// let endpoint = Endpoint {
///     address: "10.244.1.7".parse().unwrap(),
///     ready: true,
///     serving: true,
///     terminating: false,
///     node: Some("node-1".into()),
///     hints: None,
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
/// cluster.services.insert(name.clone(), Box::new(service));
/// cluster.slices.insert(name, Box::new(slice));
///
/// let node = LocalNode { name: "node-1".into(), ..LocalNode::default() };
/// let settings = Settings {
///     nodeport_addresses: NodePortAddresses::default(),
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
    let cluster_index = &ClusterIndex::of(cluster, settings.honours_external_ips);
    let contents_index = &ContentsIndex::of(before, settings.capacities.slots);
    let contents = before;
    Planner { cluster, cluster_index, local_node, settings, contents, contents_index, unreferenced }
        .plan()
}

impl Planner<'_> {
    /// [`plan`], from indexes that are there.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let mut omissions = Omissions::default();
        let scope = Scope::everything(self.cluster);
        let (contents, is_short) =
            build::build(&self.context(self.contents), &scope, self.unreferenced, &mut omissions);
        let Omissions { mut warnings, is_left_out } = omissions;
        let nodes = self.cluster.nodes.keys().map(String::as_str);
        warnings.extend(missing_node(&self.local_node.name, nodes));
        warnings.sort_unstable();
        warnings.dedup();
        Plan { contents, warnings, is_map_full: is_left_out || is_short, is_left_out }
    }

    /// What [`plan`](Self::plan) would change for `touched`, if nothing else is to be changed; `None` if
    /// everything has to be planned, because everything is touched or a map is full.
    #[must_use]
    pub fn plan_touched(&self, touched: &Touched, may_be_short: bool) -> Option<PartialPlan> {
        if touched.is_everything() {
            return None;
        }
        let Planner { contents, contents_index, unreferenced, .. } = *self;
        let mut before = build::rows_of(touched, contents, contents_index, &unreferenced.filter);
        let scope = Scope::of(self.cluster, self.cluster_index, touched);
        let mut omissions = Omissions::default();
        let (mut after, is_short) =
            build::build(&self.context(&before), &scope, self.unreferenced, &mut omissions);
        if omissions.is_left_out || (is_short && !may_be_short) {
            return None;
        }
        if owns_more(&after.v4, &before.v4, &contents.v4)
            || owns_more(&after.v6, &before.v6, &contents.v6)
        {
            return None;
        }
        for (word, bits) in &mut after.filter {
            if let Some(all) = contents.filter.get(word)
                && !before.filter.contains_key(word)
            {
                before.filter.insert(*word, *all);
                *bits |= all;
            }
        }
        let Omissions { mut warnings, .. } = omissions;
        warnings.sort_unstable();
        warnings.dedup();
        let about = touched.services.iter().map(service_ports::about).collect();
        Some(PartialPlan { before, after, warnings, about })
    }

    /// This node's addresses that serve node ports.
    #[must_use]
    pub fn nodeport_addresses(&self) -> BTreeSet<IpAddr> {
        node::all_nodeport_addresses(&self.context(self.contents))
    }

    /// Brings `checks`, the health checks of this node, up to date with what is touched.
    pub fn update_health_checks(&self, touched: &Touched, checks: &mut HealthChecks) {
        let slices =
            |service: &Service| self.cluster_index.slices(&service.name, self.cluster).collect();
        let which = &self.settings.nodeport_addresses;
        if touched.is_everything() {
            let services = self.cluster.services.values().map(Box::as_ref);
            *checks = health_checks::health_checks(services, slices, self.local_node, which);
            return;
        }
        checks.retain(|check, _| !touched.services.contains(&check.service));
        let services = touched.services.iter().filter_map(|name| self.cluster.service(name));
        checks.extend(health_checks::health_checks(services, slices, self.local_node, which));
    }

    const fn context<'a>(&'a self, before: &'a Contents) -> Context<'a> {
        Context {
            cluster: self.cluster,
            index: self.cluster_index,
            local_node: self.local_node,
            settings: self.settings,
            before,
            contents: self.contents,
            contents_index: self.contents_index,
        }
    }
}

/// Whether a frontend in `after` is one of `all` that was not of these Services `before`: then what is touched is not
/// all that changes.
fn owns_more<A: Address>(
    after: &FamilyContents<A>,
    before: &FamilyContents<A>,
    all: &FamilyContents<A>,
) -> bool {
    let new = after.frontends.keys().filter(|frontend| !before.frontends.contains_key(frontend));
    new.into_iter().any(|frontend| all.frontends.contains_key(frontend))
}
