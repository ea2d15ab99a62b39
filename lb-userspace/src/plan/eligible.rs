//! Which endpoints a new flow may get: traffic policies, topology hints, and terminating endpoints
//! where no ready one is left (KEP-1669, KEP-2433, KEP-4444), as in kube-proxy's
//! `CategorizeEndpoints`. The eBPF programs see only the pools that result.

use super::frontends::FrontendKind;
use crate::model::{Endpoint, Service, ServiceType, SharedText, TrafficPolicy};

/// This node's place in the cluster's topology.
pub(super) struct NodeTopology<'a> {
    /// Its name.
    pub(super) node: &'a str,
    /// Its zone, if it has one.
    pub(super) zone: Option<&'a str>,
}

impl NodeTopology<'_> {
    /// Whether `endpoint` is on this node.
    pub(super) fn has_endpoint(&self, endpoint: &Endpoint) -> bool {
        endpoint.node.as_deref() == Some(self.node)
    }
}

/// The policy for each source class, in the order of `SourceClass::ALL`, at a frontend of this kind.
///
/// `externalTrafficPolicy: Local` applies to traffic from outside the cluster. Pods and the node itself
/// are inside and get any endpoint, as through the cluster IP.
pub(super) fn policies(service: &Service, kind: FrontendKind) -> [TrafficPolicy; 3] {
    match kind {
        FrontendKind::ClusterIp => [service.internal_policy; 3],
        FrontendKind::LoadBalancer | FrontendKind::ExternalIp | FrontendKind::NodePort => {
            [TrafficPolicy::Cluster, external(service), TrafficPolicy::Cluster]
        }
    }
}

/// `externalTrafficPolicy` as `ExternalPolicyLocal` of `k8s.io/kubernetes/pkg/api/v1/service` reads
/// it: ignored for a Service that has no external addresses.
fn external(service: &Service) -> TrafficPolicy {
    if service.kind == ServiceType::ClusterIp && service.external_ips.is_empty() {
        TrafficPolicy::Cluster
    } else {
        service.external_policy
    }
}

/// The indexes of the `endpoints` that a new flow may get under `policy`. Empty under `Cluster` only if
/// no endpoint of the cluster is usable.
pub(super) fn eligible(
    endpoints: &[&Endpoint],
    policy: TrafficPolicy,
    topology: &NodeTopology<'_>,
) -> Vec<usize> {
    match policy {
        TrafficPolicy::Cluster => {
            ready_or_draining(endpoints, |_| true, |ready| hinted(endpoints, ready, topology))
        }
        TrafficPolicy::Local => {
            ready_or_draining(endpoints, |endpoint| topology.has_endpoint(endpoint), |ready| ready)
        }
    }
}

fn ready_or_draining(
    endpoints: &[&Endpoint],
    in_scope: impl Fn(&Endpoint) -> bool,
    narrowed: impl Fn(Vec<usize>) -> Vec<usize>,
) -> Vec<usize> {
    let of = |usable: fn(&Endpoint) -> bool| -> Vec<usize> {
        let all = endpoints.iter().enumerate();
        let chosen = all.filter(|(_, endpoint)| usable(endpoint) && in_scope(endpoint));
        chosen.map(|(index, _)| index).collect()
    };
    let ready = of(|endpoint| endpoint.ready);
    if ready.is_empty() {
        of(|endpoint| endpoint.serving && endpoint.terminating)
    } else {
        narrowed(ready)
    }
}

/// Those of `ready` with a hint for this node, else for its zone. If one endpoint has no hint, or none
/// has one for this node or zone, hints are ignored: a remote endpoint is better than none.
fn hinted(endpoints: &[&Endpoint], ready: Vec<usize>, topology: &NodeTopology<'_>) -> Vec<usize> {
    let endpoint = |index: &usize| endpoints.get(*index).copied();
    let narrowed = |has_hint: &dyn Fn(&Endpoint) -> bool, is_ours: &dyn Fn(&Endpoint) -> bool| {
        let all = ready.iter().filter_map(endpoint).all(has_hint);
        let ours = ready.iter().copied().filter(|i| endpoint(i).is_some_and(is_ours));
        let ours: Vec<usize> = if all { ours.collect() } else { Vec::new() };
        (!ours.is_empty()).then_some(ours)
    };
    let has = |hints: &[SharedText], name: &str| hints.iter().any(|hint| &**hint == name);
    let by_node =
        narrowed(&|e| !e.node_hints().is_empty(), &|e| has(e.node_hints(), topology.node));
    let by_zone = || {
        let zone = topology.zone?;
        narrowed(&|e| !e.zone_hints().is_empty(), &|e| has(e.zone_hints(), zone))
    };
    by_node.or_else(by_zone).unwrap_or_else(|| ready.clone())
}
