//! Packets that the datapath does not read, or cannot: they pass unchanged.

use lb_common::address::Family;
use lb_common::outcome::Outcome;

use super::builder::{Addresses, CaseBuilder, PAYLOAD};
use super::case::{Case, Program};
use super::frame::{self, Kind};
use crate::slow_path;

/// Offset of the EtherType in a frame, in bytes.
const ETHER_TYPE: usize = 12;
/// Offset of the IP header in a frame, in bytes.
const IP: usize = 14;

/// Link address of another host.
const OTHER_HOST: [u8; 6] = [0x02, 0, 0, 0, 0, 0x99];

/// A packet to a Service, to be damaged.
struct Whole {
    frame: Vec<u8>,
    /// Offset of the transport protocol's number (IPv6: of the next header's), in bytes.
    protocol: usize,
    /// Offset of the transport header, in bytes.
    transport: usize,
}

impl Whole {
    /// The frame with `bytes` at the offset `at`.
    fn with(&self, at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut frame = self.frame.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    }

    /// The first `length` bytes of the frame.
    fn cut(&self, length: usize) -> Vec<u8> {
        self.frame[..length].to_vec()
    }
}

impl CaseBuilder {
    /// The cases of this file.
    pub(super) fn malformed(self) -> Vec<Case> {
        let Addresses { pod, frontend, .. } = self.addresses();
        let (protocol, transport) = self.by_family((23, 34), (20, 54));
        let frame = frame::frame(pod, frontend, self.protocol, Kind::Open, PAYLOAD);
        let whole = Whole { frame, protocol, transport };
        let mut cases = self.bad_headers(&whole);
        cases.push(self.not_for_this_node());
        cases.extend(self.icmp_types(&whole));
        cases.extend(match self.topology.family {
            Family::V4 => self.bad_ipv4(&whole),
            Family::V6 => self.bad_ipv6(&whole),
        });
        cases
    }

    fn bad_headers(self, whole: &Whole) -> Vec<Case> {
        let &Whole { protocol, transport, .. } = whole;
        let (arp, vlan) = (whole.with(ETHER_TYPE, &[8, 6]), whole.with(ETHER_TYPE, &[0x81, 0]));
        let (version_9, dccp) = (whole.with(IP, &[0x95]), whole.with(protocol, &[33]));
        let (ip_header, transport_header) = (whole.cut(transport - 1), whole.cut(transport + 7));
        let malformed = Outcome::PassedMalformed;
        [
            ("a packet that is not IP passes", arp, Outcome::PassedNotIp),
            ("a packet with a VLAN tag passes", vlan, Outcome::PassedVlan),
            ("a packet whose IP version is not that of its EtherType passes", version_9, malformed),
            ("a truncated IP header passes", ip_header, malformed),
            ("a truncated transport header passes", transport_header, malformed),
            ("DCCP passes", dccp, Outcome::PassedUnsupportedProtocol),
        ]
        .map(|(sentence, frame, outcome)| self.passes(sentence, &frame, outcome))
        .into()
    }

    /// Frames to another host, to all hosts, and to a group of them; then one to this node.
    fn not_for_this_node(self) -> Case {
        let Addresses {
            pod, client, frontend, remote_frontend, remote_backend, snat_source, ..
        } = self.addresses();
        let (client, xdp, pod) =
            (self.from_network(client), self.network_xdp(client), self.from_pod(pod));
        let others = [OTHER_HOST, [0xff; 6], [1, 0, 0x5e, 0, 0, 1]];
        let pass = others.into_iter().flat_map(|link| {
            [client, xdp].map(|sender| {
                let packet = sender.resets(remote_frontend).to_link(link);
                packet.passes(Outcome::PassedNotThisNode)
            })
        });
        let begins = client.connects_to(remote_frontend).is_snat_to(snat_source, remote_backend);
        let goes_on = xdp.sends_to(remote_frontend).is_snat_to(snat_source, remote_backend);
        let bridged = pod.connects_to(frontend).to_link(OTHER_HOST);
        let backend = self.addresses().backend;
        self.case("a frame from the network that is not for this node passes").steps(
            [begins].into_iter().chain(pass).chain([goes_on, bridged.is_forwarded_to(backend)]),
        )
    }

    /// ICMP messages whose bytes after the type are those of a transport header.
    fn icmp_types(self, whole: &Whole) -> Vec<Case> {
        let icmp = self.by_family(1, 58);
        let errors = self.by_family([3, 11], [2, 1]);
        let others = self.by_family([0, 13], [129, 135]);
        let of_type = |kind| {
            let mut frame = whole.with(whole.protocol, &[icmp]);
            frame[whole.transport] = kind;
            frame
        };
        let error = errors.map(|kind| {
            let sentence = "an ICMP error that quotes no packet passes";
            self.passes(sentence, &of_type(kind), Outcome::PassedIcmpError)
        });
        let other = others.map(|kind| {
            let sentence = "an ICMP message that is neither error nor echo request passes";
            self.passes(sentence, &of_type(kind), Outcome::PassedUnsupportedProtocol)
        });
        error.into_iter().chain(other).collect()
    }

    fn bad_ipv4(self, whole: &Whole) -> Vec<Case> {
        let sentence = "an IPv4 header length below five words passes";
        vec![self.passes(sentence, &whole.with(IP, &[0x44]), Outcome::PassedMalformed)]
    }

    fn bad_ipv6(self, whole: &Whole) -> Vec<Case> {
        let truncated = |extension_header| {
            let mut frame = whole.cut(whole.transport + 7);
            frame[whole.protocol] = extension_header;
            let arrival = self.bytes_at(Program::FromPod, frame);
            self.case("a truncated IPv6 extension header passes")
                .step(arrival.passes(Outcome::PassedMalformed))
        };
        [0, 43, 44, 51, 60].map(truncated).into()
    }

    /// The frame passes TC with `outcome`, and XDP, unless XDP leaves the slow path to TC.
    fn passes(self, sentence: &'static str, frame: &[u8], outcome: Outcome) -> Case {
        let at_xdp = if slow_path::takes(outcome) { Outcome::PassedLeftToTc } else { outcome };
        self.case(sentence).steps([
            self.bytes_at(Program::FromPod, frame.to_vec()).passes(outcome),
            self.bytes_at(Program::NetworkXdp, frame.to_vec()).passes(at_xdp),
        ])
    }
}
