//! Builds the cases of a family and protocol: their sentence, limits, addresses, and the steps that
//! are no packets.

use std::net::SocketAddr;

use lb_common::address::{Family, Protocol};

use crate::cases::case::{Case, Setting, Step};
use crate::cases::topology::{BACKEND_PORT, Pod, Target, Topology};
use crate::world::RateLimit;

/// The port of clients.
pub(crate) const CLIENT_PORT: u16 = 40_000;

/// The payload of packets for which a case needs no other.
pub const PAYLOAD: &[u8] = b"a payload of an odd length.";

/// One or more steps that make one line of a case.
pub(crate) type Steps = Vec<Step>;

/// Builds the cases of a family and protocol. `device` is the interface index of the node's network
/// device.
#[derive(Clone, Copy)]
pub(crate) struct CaseBuilder {
    pub(crate) topology: Topology,
    pub(crate) protocol: Protocol,
    pub(crate) device: u32,
}

/// The addresses that most cases name.
pub(crate) struct Addresses {
    /// A local pod that is a client.
    pub(crate) pod: SocketAddr,
    /// An external client.
    pub(crate) client: SocketAddr,
    /// The frontend of the local backend.
    pub(crate) frontend: SocketAddr,
    /// The local backend.
    pub(crate) backend: SocketAddr,
    /// The frontend of the remote backend.
    pub(crate) remote_frontend: SocketAddr,
    /// The remote backend.
    pub(crate) remote_backend: SocketAddr,
    /// The source that SNAT gives packets from `client` to `remote_frontend`.
    pub(crate) snat_source: SocketAddr,
    /// The node, without a port.
    pub(crate) node: SocketAddr,
    /// The router, without a port.
    pub(crate) router: SocketAddr,
}

impl CaseBuilder {
    /// The addresses in this family.
    pub(crate) fn addresses(self) -> Addresses {
        let topology = self.topology;
        let client = topology.client(CLIENT_PORT);
        Addresses {
            pod: topology.client_pod(CLIENT_PORT),
            client,
            frontend: topology.frontend(Target::Local),
            backend: topology.pod(Pod::Local, BACKEND_PORT),
            remote_frontend: topology.frontend(Target::Remote),
            remote_backend: topology.pod(Pod::Remote, BACKEND_PORT),
            snat_source: self.snat_source(client, Target::Remote),
            node: topology.node(0),
            router: SocketAddr::new(topology.router(), 0),
        }
    }

    /// The source that SNAT gives packets from `client` to `target` if nothing else has it.
    pub(crate) fn snat_source(self, client: SocketAddr, target: Target) -> SocketAddr {
        self.topology.node(self.snat_port(client, target, 0))
    }

    /// The source port that SNAT tries as the `number`th, counted from 0.
    pub(crate) fn snat_port(self, client: SocketAddr, target: Target, number: u32) -> u16 {
        self.topology.snat_port(client, self.topology.frontend(target), self.protocol, number)
    }

    /// The value of this family.
    pub(crate) fn by_family<T>(self, v4: T, v6: T) -> T {
        match self.topology.family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// A case that proves `sentence`, without steps yet.
    pub(crate) fn case(self, sentence: &'static str) -> Case {
        let Self { topology: Topology { family }, protocol, .. } = self;
        Case { sentence, family, protocol, setting: Setting::default(), steps: Vec::new() }
    }
}

impl Case {
    /// The same in a world where so many entries fit into the table of established connections.
    pub(crate) fn with_conntrack_capacity(mut self, entries: u32) -> Self {
        self.setting.conntrack_capacity = Some(entries);
        self
    }

    /// The same in a world whose neighbours were not confirmed lately.
    pub(crate) fn with_stale_neighbours(mut self) -> Self {
        self.setting.has_stale_neighbours = true;
        self
    }

    /// The same in a world without source ports for SNAT.
    pub(crate) fn without_snat_ports(mut self) -> Self {
        self.setting.has_no_snat_ports = true;
        self
    }

    /// The same with one line of steps.
    pub(crate) fn step(self, steps: Steps) -> Self {
        Self { steps, ..self }
    }

    /// The same with these lines of steps.
    pub(crate) fn steps(self, steps: impl IntoIterator<Item = Steps>) -> Self {
        Self { steps: steps.into_iter().flatten().collect(), ..self }
    }
}

/// The agent marks a backend as no longer serving.
pub(crate) fn pod_is_retired(pod: Pod) -> Steps {
    vec![Step::Retire(pod)]
}

/// The kernel evicts the half-open entry of packets from `from` to `to`.
pub(crate) fn half_open_entry_is_evicted(from: SocketAddr, to: SocketAddr) -> Steps {
    vec![Step::Evict(from, to)]
}

/// From now on the rate limit allows so many times more.
pub(crate) fn limit_is(limit: RateLimit, times: u32) -> Steps {
    vec![Step::Allow(limit, times)]
}

/// The kernel has released so many queued fragments.
pub(crate) fn kernel_releases_fragments(count: usize) -> Steps {
    vec![Step::Released(count)]
}
