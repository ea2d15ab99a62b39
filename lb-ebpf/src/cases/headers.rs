//! Packets with IPv4 options and IPv6 extension headers.

use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;

use super::builder::{Addresses, CaseBuilder};
use super::case::Case;

impl CaseBuilder {
    /// The cases of this file.
    pub(super) fn headers(self) -> Vec<Case> {
        match self.topology.family {
            Family::V4 if self.protocol == Protocol::TCP => vec![self.ipv4_options()],
            Family::V4 => Vec::new(),
            Family::V6 => vec![self.extension_headers()],
        }
    }

    fn ipv4_options(self) -> Case {
        let Addresses { pod, frontend, backend, .. } = self.addresses();
        let packet = self.from_pod(pod).connects_to(frontend).with_ipv4_options();
        self.case("IPv4 options are skipped").step(packet.is_forwarded_to(backend))
    }

    fn extension_headers(self) -> Case {
        let Addresses { pod, frontend, backend, .. } = self.addresses();
        let with = |types| self.from_pod(pod).sends_to(frontend).with_extension_headers(types);
        self.case("IPv6 extension headers are skipped, up to a limit").steps([
            self.from_pod(pod).establishes(frontend, backend),
            with(&[0]).is_forwarded_to(backend),
            with(&[60]).is_forwarded_to(backend),
            with(&[0, 43, 60]).is_forwarded_to(backend),
            with(&[60; 7]).passes(Outcome::PassedExtensionHeader),
        ])
    }
}
