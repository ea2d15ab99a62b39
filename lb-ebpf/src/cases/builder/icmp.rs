//! ICMP messages that arrive, and how they leave.

use std::net::SocketAddr;

use lb_common::address::Protocol;
use lb_common::outcome::Outcome;

use super::arrival::{Arrival, Content, Sender, routed};
use super::case_builder::{CaseBuilder, PAYLOAD, Steps};
use crate::cases::case::Output;
use crate::cases::frame::{self, Icmp, Kind};
use crate::hook::Verdict;

/// The ICMP errors of cases, in both families.
impl CaseBuilder {
    /// Port unreachable.
    pub(crate) fn port_unreachable(self) -> Icmp {
        self.by_family((3, 3, 0), (1, 4, 0))
    }

    /// Fragmentation needed, packet too big. `mtu` is in bytes.
    pub(crate) fn packet_too_big(self, mtu: u32) -> Icmp {
        self.by_family((3, 4, mtu), (2, 0, mtu))
    }

    /// Time exceeded.
    pub(crate) fn time_exceeded(self) -> Icmp {
        self.by_family((11, 0, 0), (3, 0, 0))
    }
}

/// An ICMP error about a packet.
pub(crate) struct IcmpError {
    from: SocketAddr,
    icmp: Icmp,
    about: (SocketAddr, SocketAddr),
    is_short: bool,
}

impl Content for IcmpError {
    fn frame(&self, builder: CaseBuilder) -> Vec<u8> {
        self.with_quote(builder, self.from, self.about.0, &quote(builder, self.about))
    }
}

impl IcmpError {
    /// The error as it is sent from `from` to `to`, with as much of `quote` as it has.
    fn with_quote(
        &self,
        builder: CaseBuilder,
        from: SocketAddr,
        to: SocketAddr,
        quote: &[u8],
    ) -> Vec<u8> {
        if !self.is_short {
            return frame::icmp(from.ip(), to.ip(), self.icmp, quote);
        }
        let quote = &quote[..builder.by_family(20, 40) + 8];
        let mut frame = frame::icmp(from.ip(), to.ip(), self.icmp, quote);
        frame.extend([0xa5; 30]);
        frame
    }
}

/// The IP packet that an error quotes.
fn quote(builder: CaseBuilder, (from, to): (SocketAddr, SocketAddr)) -> Vec<u8> {
    frame::frame(from, to, builder.protocol, Kind::Data, PAYLOAD).split_off(14)
}

impl Sender {
    /// An ICMP error about a packet between the two addresses, to its source.
    pub(crate) fn reports(self, icmp: Icmp, about: (SocketAddr, SocketAddr)) -> Arrival<IcmpError> {
        let Self { builder, program, from } = self;
        Arrival { builder, program, content: IcmpError { from, icmp, about, is_short: false } }
    }
}

impl Arrival<IcmpError> {
    /// The error with no more of the packet than every error quotes (RFC 792: eight bytes after the IP
    /// header), and a trailer behind it, as some links leave one.
    pub(crate) fn with_short_quote(mut self) -> Self {
        self.content.is_short = true;
        self
    }

    /// The error reaches the client, about the packet that the client sent from `from` to `to`.
    pub(crate) fn is_replied_about(self, from: SocketAddr, to: SocketAddr) -> Steps {
        let sender = self.content.from;
        self.leaves(Outcome::RepliedIcmpError, Verdict::Pass, sender, (from, to))
    }

    /// The error reaches the backend, about the reply that the backend sent from `from` to `to`.
    pub(crate) fn is_forwarded_about(self, from: SocketAddr, to: SocketAddr) -> Steps {
        let sender = self.content.from;
        self.leaves(Outcome::ForwardedIcmpError, Verdict::Pass, sender, (from, to))
    }

    /// The error reaches `client` from `frontend`, about the packet between them.
    pub(crate) fn is_replied_as(
        self,
        frontend: SocketAddr,
        client: SocketAddr,
        verdict: Verdict,
    ) -> Steps {
        self.leaves(Outcome::RepliedIcmpError, verdict, frontend, (client, frontend))
    }

    /// The error reaches `backend` from `source`, about the reply between them.
    pub(crate) fn is_forwarded_as(
        self,
        source: SocketAddr,
        backend: SocketAddr,
        verdict: Verdict,
    ) -> Steps {
        self.leaves(Outcome::ForwardedIcmpError, verdict, source, (backend, source))
    }

    /// The error leaves from `from`, about a packet between the two addresses.
    fn leaves(
        self,
        outcome: Outcome,
        verdict: Verdict,
        from: SocketAddr,
        about: (SocketAddr, SocketAddr),
    ) -> Steps {
        let (builder, content) = (self.builder, &self.content);
        let mut new_quote = quote(builder, about);
        if builder.protocol == Protocol::SCTP {
            // A quote's SCTP checksum stays as it is: nobody can check it, for quotes are cut short.
            let at = builder.by_family(28..32, 48..52);
            new_quote[at.clone()].copy_from_slice(&quote(builder, content.about)[at]);
        }
        let frame = content.with_quote(builder, from, about.0, &new_quote);
        self.ends(outcome, verdict, Output::Bytes(routed(frame, verdict)))
    }
}

/// An echo request.
pub(crate) struct EchoRequest {
    from: SocketAddr,
    to: SocketAddr,
}

impl Content for EchoRequest {
    fn frame(&self, builder: CaseBuilder) -> Vec<u8> {
        let request = builder.by_family(8, 128);
        frame::icmp(self.from.ip(), self.to.ip(), (request, 0, 9), PAYLOAD)
    }
}

impl Sender {
    /// An echo request to `to`.
    pub(crate) fn pings(self, to: SocketAddr) -> Arrival<EchoRequest> {
        let Self { builder, program, from } = self;
        Arrival { builder, program, content: EchoRequest { from, to } }
    }
}

impl Arrival<EchoRequest> {
    /// The sender gets an echo reply.
    pub(crate) fn is_echo_replied(self) -> Steps {
        let EchoRequest { from, to } = self.content;
        let reply = self.builder.by_family(0, 129);
        let mut frame = frame::icmp(to.ip(), from.ip(), (reply, 0, 9), PAYLOAD);
        frame::swap_link_addresses(&mut frame);
        self.ends(Outcome::EchoReplied, Verdict::Tx, Output::Bytes(frame))
    }
}
