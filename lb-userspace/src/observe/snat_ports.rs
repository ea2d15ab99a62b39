//! Metrics of source ports for SNAT.

use lb_common::snat::{Rows, TIERS};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How many source ports there are, and how many are in use.
#[derive(Clone, Default, Debug)]
pub struct SnatPorts {
    all: Gauge,
    beyond_sockets: Gauge,
    busiest_backend: Gauge,
}

impl SnatPorts {
    /// The datapath may take these: the last tier has all, the first those that the kernel gives to no
    /// socket.
    pub fn offer(&self, [first, _, all]: &[Rows; TIERS]) {
        self.all.set(all.ports().into());
        self.beyond_sockets.set(first.ports().into());
    }

    /// So many are in use towards the backend that has most.
    pub fn count(&self, busiest_backend: u32) {
        self.busiest_backend.set(busiest_backend.into());
    }

    /// Adds the metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "snat_ports",
            "Source ports that SNAT may take towards one backend from one address of this node",
            self.all.clone(),
        );
        registry.register(
            "snat_ports_beyond_sockets",
            "Those that the kernel gives to no socket, which are taken first",
            self.beyond_sockets.clone(),
        );
        registry.register(
            "snat_ports_busiest_backend",
            "Those in use towards the backend that has most, at the last garbage collection",
            self.busiest_backend.clone(),
        );
    }
}
