//! Which endpoints a new flow may get: traffic policies, topology hints, and terminating endpoints
//! where no ready one is left (KEP-1669, KEP-2433, KEP-4444), as kube-proxy's
//! `CategorizeEndpoints` decides. The kernel knows nothing of all this, only the pools that follow.

use crate::model::{Endpoint, Service, ServiceType, TrafficPolicy};

/// Where this node is.
pub(super) struct Place<'a> {
    /// Its name.
    pub(super) node: &'a str,
    /// Its zone, if it has one.
    pub(super) zone: Option<&'a str>,
}

impl Place<'_> {
    /// Whether `endpoint` is on this node.
    pub(super) fn has(&self, endpoint: &Endpoint) -> bool {
        endpoint.node.as_deref() == Some(self.node)
    }
}

/// How clients come to a frontend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// By a cluster IP.
    ClusterIp,
    /// By a load balancer's address.
    LoadBalancer,
    /// By an external IP.
    ExternalIp,
    /// By a node's address.
    NodePort,
}

/// The policy for each source class, in the order of `SourceClass::ALL`, at a frontend of `reach`.
///
/// From outside, `Local` means what it says; pods and the node itself are inside the cluster
/// already and get any endpoint, as through the cluster IP.
pub(super) fn policies(service: &Service, reach: Reach) -> [TrafficPolicy; 3] {
    match reach {
        Reach::ClusterIp => [service.internal_policy; 3],
        Reach::LoadBalancer | Reach::ExternalIp | Reach::NodePort => {
            [TrafficPolicy::Cluster, external(service), TrafficPolicy::Cluster]
        }
    }
}

/// `externalTrafficPolicy` as `ExternalPolicyLocal` of `k8s.io/kubernetes/pkg/api/v1/service` reads
/// it: Local means nothing to a Service that is not of a kind to be reached from outside.
fn external(service: &Service) -> TrafficPolicy {
    if service.kind == ServiceType::ClusterIp && service.external_ips.is_empty() {
        TrafficPolicy::Cluster
    } else {
        service.external_policy
    }
}

/// Which of `endpoints` (by index) a policy allows to a new flow. Empty under `Cluster` if none is
/// usable anywhere.
pub(super) fn eligible(
    endpoints: &[&Endpoint],
    policy: TrafficPolicy,
    place: &Place<'_>,
) -> Vec<usize> {
    match policy {
        TrafficPolicy::Cluster => {
            ready_or_draining(endpoints, |_| true, |ready| hinted(endpoints, ready, place))
        }
        TrafficPolicy::Local => {
            ready_or_draining(endpoints, |endpoint| place.has(endpoint), |ready| ready)
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

/// Those of `ready` that hint at this node, else at its zone. One endpoint without a hint, or no
/// hint at us, and hints count for nothing: better far than not at all.
fn hinted(endpoints: &[&Endpoint], ready: Vec<usize>, place: &Place<'_>) -> Vec<usize> {
    let endpoint = |index: &usize| endpoints.get(*index).copied();
    let narrowed = |is_given: &dyn Fn(&Endpoint) -> bool, is_ours: &dyn Fn(&Endpoint) -> bool| {
        let all = ready.iter().filter_map(endpoint).all(is_given);
        let ours = ready.iter().copied().filter(|i| endpoint(i).is_some_and(is_ours));
        let ours: Vec<usize> = if all { ours.collect() } else { Vec::new() };
        (!ours.is_empty()).then_some(ours)
    };
    let by_node = narrowed(&|e| !e.node_hints.is_empty(), &|e| e.node_hints.contains(place.node));
    let by_zone = || {
        let zone = place.zone?;
        narrowed(&|e| !e.zone_hints.is_empty(), &|e| e.zone_hints.contains(zone))
    };
    by_node.or_else(by_zone).unwrap_or_else(|| ready.clone())
}
