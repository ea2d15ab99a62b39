//! The expected results of a cell, by Kubernetes' rules.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use lb_common::outcome::Outcome;
use lb_common::service::SourceClass;
use lb_ebpf::cases::topology::{self, Pod, Topology};
use lb_userspace::model::TrafficPolicy;

use crate::cells::{Cell, FrontendKind};

impl Cell {
    /// The pods that its flows may reach, or the outcome. The node's processes and pods are inside the
    /// cluster, so for them Local applies to the cluster IP alone.
    pub fn ends(&self) -> Result<BTreeSet<SocketAddr>, Outcome> {
        let pods = self.endpoints.pods();
        if pods.is_empty() {
            return Err(Outcome::RejectedNoEndpoint);
        }
        let from_outside = self.class == SourceClass::Network;
        let is_local = self.policy == TrafficPolicy::Local
            && (self.frontend == FrontendKind::ClusterIp || from_outside);
        let eligible = pods.iter().filter(|pod| !is_local || **pod == Pod::Local);
        let ends: BTreeSet<SocketAddr> = eligible.map(|pod| self.at(*pod)).collect();
        if ends.is_empty() { Err(Outcome::DroppedNoLocalEndpoint) } else { Ok(ends) }
    }

    /// The outcome of a flow of this cell to the pod at `end`, and its source there if that is translated.
    pub fn forwarded(&self, end: SocketAddr) -> (Outcome, Option<IpAddr>) {
        if self.class == SourceClass::Network && end == self.at(Pod::Remote) {
            (Outcome::ForwardedSnat, Some(Topology { family: self.family }.node(0).ip()))
        } else {
            (Outcome::Forwarded, None)
        }
    }

    fn at(&self, pod: Pod) -> SocketAddr {
        Topology { family: self.family }.pod(pod, topology::BACKEND_PORT)
    }
}
