//! TCP, UDP and SCTP packets that arrive, and how they leave.

use std::net::SocketAddr;

use lb_common::outcome::Outcome;

use super::arrival::{Arrival, Content, Sender, routed};
use super::case_builder::{CaseBuilder, PAYLOAD, Steps};
use crate::cases::case::Output;
use crate::cases::frame::{self, Icmp, IcmpMessage, Kind};
use crate::hook::{Verdict, WalkResult};

/// A payload that makes three fragments.
const LONG_PAYLOAD: [u8; 100] = [0x5a; 100];

/// A packet. One that is edited is compared byte by byte with the same edit of the packet expected.
pub(crate) struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    kind: Kind,
    payload: Vec<u8>,
    edit: Option<Edit>,
    segment: u32,
}

type Edit = Box<dyn Fn(Vec<u8>) -> Vec<u8>>;

impl Packet {
    /// Its bytes if it went from `from` to `to`.
    fn between(&self, builder: CaseBuilder, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let frame = frame::frame(from, to, builder.protocol, self.kind, &self.payload);
        match &self.edit {
            Some(edit) => edit(frame),
            None => frame,
        }
    }
}

impl Content for Packet {
    fn frame(&self, builder: CaseBuilder) -> Vec<u8> {
        self.between(builder, self.from, self.to)
    }

    fn segment(&self) -> u32 {
        self.segment
    }
}

impl Sender {
    /// A SYN to `to`, or the first datagram.
    pub(crate) fn connects_to(self, to: SocketAddr) -> Arrival<Packet> {
        self.packet(Kind::Open, to)
    }

    /// A SYN and ACK to `client`.
    pub(crate) fn accepts(self, client: SocketAddr) -> Arrival<Packet> {
        self.packet(Kind::Accept, client)
    }

    /// Data to `to`.
    pub(crate) fn sends_to(self, to: SocketAddr) -> Arrival<Packet> {
        self.packet(Kind::Data, to)
    }

    /// A FIN to `to`.
    pub(crate) fn closes(self, to: SocketAddr) -> Arrival<Packet> {
        self.packet(Kind::Close, to)
    }

    /// A RST to `to`.
    pub(crate) fn resets(self, to: SocketAddr) -> Arrival<Packet> {
        self.packet(Kind::Reset, to)
    }

    /// Fragment `number`, counted from 0, of a packet to `to` that has three.
    pub(crate) fn sends_fragment(self, number: usize, to: SocketAddr) -> Arrival<Packet> {
        let packet = self.sends_to(to).with_payload(&LONG_PAYLOAD);
        packet.edited(move |frame| frame::fragments(&frame).swap_remove(number))
    }

    /// A connection to `frontend` and its local `backend`, until both ends have sent.
    pub(crate) fn establishes(self, frontend: SocketAddr, backend: SocketAddr) -> Steps {
        let replies = self.builder.to_device(backend);
        [
            self.connects_to(frontend).is_forwarded_to(backend),
            replies.accepts(self.from).is_replied_as(frontend),
            self.sends_to(frontend).is_forwarded_to(backend),
        ]
        .concat()
    }

    fn packet(self, kind: Kind, to: SocketAddr) -> Arrival<Packet> {
        let Self { builder, program, from } = self;
        let content = Packet { from, to, kind, payload: PAYLOAD.to_vec(), edit: None, segment: 0 };
        Arrival { builder, program, content }
    }
}

/// Packets out of the ordinary.
impl Arrival<Packet> {
    /// The packet with `payload`.
    pub(crate) fn with_payload(mut self, payload: &[u8]) -> Self {
        self.content.payload = payload.to_vec();
        self
    }

    /// The packet as one that GRO has put together of packets with so many bytes of payload.
    pub(crate) fn in_segments(mut self, bytes: u32) -> Self {
        self.content.segment = bytes;
        self
    }

    /// The TCP packet with twelve bytes of options.
    pub(crate) fn with_tcp_options(self) -> Self {
        self.edited(|frame| frame::with_tcp_options(&frame))
    }

    /// The packet with this hop limit (IPv4: TTL).
    pub(crate) fn with_hop_limit(self, hops: u8) -> Self {
        self.edited(move |mut frame| {
            frame::set_hop_limit(&mut frame, hops);
            frame
        })
    }

    /// The IPv4 packet with options.
    pub(crate) fn with_ipv4_options(self) -> Self {
        self.edited(|frame| frame::with_ipv4_options(&frame))
    }

    /// The IPv6 packet with extension headers of these types, and a long payload.
    pub(crate) fn with_extension_headers(self, types: &'static [u8]) -> Self {
        let packet = self.with_payload(&LONG_PAYLOAD);
        packet.edited(move |frame| frame::with_extension_headers(&frame, types))
    }

    /// The packet in a frame to this link address.
    pub(crate) fn to_link(self, destination: [u8; 6]) -> Self {
        self.edited(move |mut frame| {
            frame[..6].copy_from_slice(&destination);
            frame
        })
    }

    /// The UDP packet over IPv4 without a checksum.
    pub(crate) fn without_checksum(self) -> Self {
        self.edited(|mut frame| {
            frame[40..42].fill(0);
            frame
        })
    }

    fn edited(mut self, edit: impl Fn(Vec<u8>) -> Vec<u8> + 'static) -> Self {
        self.content.edit = Some(Box::new(edit));
        self
    }
}

/// How packets leave.
impl Arrival<Packet> {
    /// DNAT to `backend`; the stack routes it.
    pub(crate) fn is_forwarded_to(self, backend: SocketAddr) -> Steps {
        let source = self.content.from;
        self.is_forwarded_from(source, backend)
    }

    /// DNAT to `backend`, from another port of the client.
    pub(crate) fn is_forwarded_from(self, source: SocketAddr, backend: SocketAddr) -> Steps {
        self.leaves_as(Outcome::Forwarded, Verdict::Pass, source, backend)
    }

    /// Un-NAT of a reply: it comes from `frontend`.
    pub(crate) fn is_replied_as(self, frontend: SocketAddr) -> Steps {
        let client = self.content.to;
        self.is_replied_to(frontend, client)
    }

    /// Un-NAT of a reply: it goes from `frontend` to the `client`'s own port.
    pub(crate) fn is_replied_to(self, frontend: SocketAddr, client: SocketAddr) -> Steps {
        self.leaves_as(Outcome::Replied, Verdict::Pass, frontend, client)
    }

    /// A reply of a direct flow that has another port: it goes to the `client`'s own one.
    pub(crate) fn is_replied_directly(self, client: SocketAddr) -> Steps {
        let backend = self.content.from;
        self.leaves_as(Outcome::RepliedDirect, Verdict::Pass, backend, client)
    }

    /// A packet of a direct flow that has another port: it comes from `source`.
    pub(crate) fn is_moved_to(self, source: SocketAddr) -> Steps {
        let backend = self.content.to;
        self.leaves_as(Outcome::ForwardedDirect, Verdict::Pass, source, backend)
    }

    /// DNAT to a remote `backend` and SNAT to `source`.
    pub(crate) fn is_snat_to(self, source: SocketAddr, backend: SocketAddr) -> Steps {
        let verdict = self.builder.redirect();
        self.leaves_as(Outcome::ForwardedSnat, verdict, source, backend)
    }

    /// Un-NAT of a remote backend's reply: it goes from `frontend` to `client`.
    pub(crate) fn is_un_nat_to(self, frontend: SocketAddr, client: SocketAddr) -> Steps {
        let verdict = self.builder.redirect();
        self.leaves_as(Outcome::RepliedSnat, verdict, frontend, client)
    }

    /// It is translated, and goes from `from` to `to`.
    pub(crate) fn leaves_as(
        self,
        outcome: Outcome,
        verdict: Verdict,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Steps {
        let output = if self.content.edit.is_some() {
            Output::Bytes(routed(self.content.between(self.builder, from, to), verdict))
        } else {
            Output::Rewritten(from, to)
        };
        self.ends(outcome, verdict, output)
    }

    /// Its sender gets an ICMP error from `from`, whose port does not matter.
    pub(crate) fn is_rejected(self, outcome: Outcome, icmp: Icmp, from: SocketAddr) -> Steps {
        let message = IcmpMessage { from: from.ip(), to: self.content.from.ip(), icmp };
        let WalkResult { outcome, verdict } = outcome.into();
        self.ends(outcome, verdict, Output::IcmpError(message))
    }
}
