//! Which rule of a Service decided about a packet, in the words of its fields.

use std::net::{IpAddr, SocketAddr};

use lb_common::address::{Port, Protocol, V4, V6};
use lb_common::backend::Backend;
use lb_common::conntrack::Ticks;
use lb_common::outcome::{Disposition, Outcome};
use lb_common::service::{Frontend, FrontendRow, ServiceId, SourceClass};
use lb_common::source_range::SourceRange;

use crate::maps::Contents;
use crate::maps::contents::InContents;

/// A packet at ingress, or a system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Its source.
    pub from: SocketAddr,
    /// Its destination.
    pub to: SocketAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// The class of its sender.
    pub class: SourceClass,
}

/// The rule by which a packet without conntrack entry has this `outcome`; `None` where no Service decides.
pub fn rule(contents: &Contents, packet: &Packet, outcome: Outcome) -> Option<String> {
    match (packet.from.ip(), packet.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            Rules { contents, packet, from: V4(from.octets()), to: V4(to.octets()) }.of(outcome)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Rules { contents, packet, from: V6(from.octets()), to: V6(to.octets()) }.of(outcome)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

/// Whether the packet ends here: what has no words of its own says the outcome's sentence.
const fn is_final(outcome: Outcome) -> bool {
    matches!(outcome.disposition(), Disposition::IcmpReplied | Disposition::Dropped)
}

struct Rules<'a, A> {
    contents: &'a Contents,
    packet: &'a Packet,
    from: A,
    to: A,
}

impl<A: InContents> Rules<'_, A> {
    fn of(&self, outcome: Outcome) -> Option<String> {
        let port = Port::new(self.packet.to.port());
        let frontend = Frontend::new(self.to, port, self.packet.protocol);
        let row = A::rows(self.contents).frontends.get(&frontend);
        match (outcome, row) {
            (Outcome::DroppedNoLocalEndpoint, Some(row)) => {
                let remote = self.count(row.service, |backend| backend.is_for(false));
                let policy = self.policy();
                Some(format!("{policy} Local, no local endpoint; {remote} remote"))
            }
            (Outcome::RejectedNoEndpoint, Some(_)) => {
                Some("no endpoint is ready, and none serves while it terminates".into())
            }
            (Outcome::DroppedSourceRange, Some(row)) => Some(self.ranges(row.service)),
            (Outcome::RejectedNoSuchPort, _) => {
                Some(format!("{} has the ports {} and no other", self.to, self.ports()))
            }
            (Outcome::DroppedUnallocatedAddress, _) => Some(self.cidr()),
            (
                Outcome::Forwarded
                | Outcome::ForwardedSnat
                | Outcome::ForwardedHairpin
                | Outcome::ForwardedConntrackFull
                | Outcome::SocketConnected,
                Some(row),
            ) => Some(self.selection(row)),
            (Outcome::ForwardedDirect, None) => {
                Some("no Service, but a flow through one has the source port".into())
            }
            (outcome, Some(_)) if is_final(outcome) => Some(outcome.sentence().into()),
            _ => None,
        }
    }

    /// Which backends there were to choose from.
    fn selection(&self, row: &FrontendRow) -> String {
        let is_local = row.is_local(self.packet.class);
        let (name, scope) = if is_local { ("Local", " on this node") } else { ("Cluster", "") };
        let among = self.count(row.service, |backend| backend.is_for(is_local));
        let kept = match Ticks::to_seconds(row.affinity) {
            0 => String::new(),
            seconds => format!("; sessionAffinity ClientIP, for {seconds} s from its last flow"),
        };
        let endpoints = if among == 1 { "endpoint" } else { "endpoints" };
        format!("policy {name}, {among} {endpoints}{scope}{kept}")
    }

    fn count(&self, service: ServiceId, is_meant: impl Fn(&Backend<A>) -> bool) -> usize {
        let rows = A::rows(self.contents).backends.values();
        let serving = rows.filter(|row| row.service == service && row.is_serving());
        serving.filter(|row| is_meant(row)).count()
    }

    /// The policy that counts at this frontend.
    fn policy(&self) -> &'static str {
        let row = A::rows(self.contents).ip_policies.get(&self.to);
        if row.is_some_and(|row| row.rejects()) {
            "internalTrafficPolicy"
        } else {
            "externalTrafficPolicy"
        }
    }

    fn ranges(&self, service: ServiceId) -> String {
        let ranges = A::rows(self.contents).source_ranges.keys();
        let ranges = ranges.filter(|range| range.service == service).map(ToString::to_string);
        let ranges: Vec<String> = ranges.collect();
        if ranges.is_empty() {
            return "loadBalancerSourceRanges of which none could be read".into();
        }
        format!(
            "loadBalancerSourceRanges {}, none of which contains {}",
            ranges.join(", "),
            self.from
        )
    }

    fn ports(&self) -> String {
        let frontends = A::rows(self.contents).frontends.keys();
        let ports = frontends.filter(|frontend| frontend.address == self.to);
        let ports: Vec<String> =
            ports.map(|frontend| format!("{}/{}", frontend.port, frontend.protocol)).collect();
        ports.join(", ")
    }

    fn cidr(&self) -> String {
        let address = SourceRange::of(SourceRange::<A>::CLUSTER, self.to);
        let mut ranges = A::rows(self.contents).source_ranges.keys();
        let range = ranges.find(|range| range.holds(&address)).map(ToString::to_string);
        let range = range.unwrap_or_else(|| "of the cluster".into());
        format!("service CIDR {range}, of which no Service has {}", self.to)
    }
}
