//! The packets of a scenario, a line each:
//!
//! ```text
//! pod 10.244.0.9:40000 > 10.96.0.1:80/tcp = forwarded to 10.244.1.1:8080
//! reply = replied from 10.96.0.1:80
//! network 203.0.113.9:* > 192.0.2.1:30080/tcp = forwarded to 10.244.0.1:8080
//! pod 10.244.0.9 pings 10.96.0.1 = echo-replied
//! host connects to 10.96.0.1:80/tcp = socket-connected to 10.244.1.1:8080
//! ```
//!
//! The first word is the source class: a pod of this node, or the network outside. Connections of the
//! node's own processes are socket calls, not packets; see [`calls`]. The first packet of a TCP tuple
//! opens a connection, later ones belong to it. `reply` is the backend's reply to the packet above;
//! after it, another packet of the client establishes the connection. With `*` for a port a thousand
//! flows are opened, and all results are listed; with `2*` a thousand others, and so on.

mod calls;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use lb_common::address::{Protocol, V4, V6};
use lb_common::conntrack::HookPoint;
use lb_common::outcome::{Disposition, Outcome};
use lb_common::service::SourceClass;
use lb_ebpf::cases::frame;
use lb_ebpf::hook::Hook;
use lb_ebpf::in_memory::World;
use lb_ebpf::walk::{Scratch, walk};
use lb_userspace::maps::Contents;

use crate::fixture::Fixture;
use crate::walk::{Ended, Sent, conntrack_entry, reply_to, send};

/// How a line begins that is a call of the node's own processes.
const CONNECTS: &str = "host connects to ";

/// The lines, each with the result of its packet.
pub fn run(fixture: &mut Fixture, lines: &str) -> String {
    let mut above: Option<(Ended, Protocol)> = None;
    let mut result = String::new();
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let request = line.split(" = ").next().unwrap().trim_end();
        let ended = match request {
            "reply" => {
                let (to, protocol) = above.expect("a packet above");
                let sent = reply_to(&fixture.world, &to, protocol);
                let ended = send(&mut fixture.world, &sent);
                vec![described(&sent, &ended)]
            }
            _ if request.starts_with(CONNECTS) => {
                let (to, protocol) = destination(request.trim_start_matches(CONNECTS));
                calls::results(&fixture.world, to, protocol)
            }
            _ if request.contains(" pings ") => {
                let (class, rest) = sender(request);
                let (from, to) = rest.split_once(" pings ").expect("a source and a destination");
                let ends = (from.parse().unwrap(), to.parse().unwrap());
                vec![ping(&fixture.world, class, ends).name().to_owned()]
            }
            _ => {
                let all = parsed(&fixture.world, request).into_iter().map(|sent| {
                    let ended = send(&mut fixture.world, &sent);
                    above = Some((ended, sent.protocol));
                    described(&sent, &ended)
                });
                Vec::from_iter(all.collect::<BTreeSet<_>>())
            }
        };
        result.push_str(&format!("{request} = {}\n", ended.join("; ")));
    }
    result
}

fn described(sent: &Sent, ended: &Ended) -> String {
    let name = ended.outcome.name();
    match ended.outcome.disposition() {
        Disposition::Passed
        | Disposition::IcmpReplied
        | Disposition::Queued
        | Disposition::Dropped => name.to_owned(),
        Disposition::Translated => {
            let source = (ended.source != sent.source).then(|| source(sent, ended));
            let to = ended.destination != sent.destination;
            let destination = to.then(|| format!(" to {}", ended.destination));
            format!("{name}{}{}", source.unwrap_or_default(), destination.unwrap_or_default())
        }
    }
}

/// An allocated SNAT port depends on the flow: only that it differs is shown.
fn source(sent: &Sent, ended: &Ended) -> String {
    let is_reply =
        sent.hook_point == HookPoint::Egress || ended.outcome.name().starts_with("replied");
    if is_reply || ended.source.port() == sent.source.port() {
        format!(" from {}", ended.source)
    } else {
        format!(" from {} with another port", ended.source.ip())
    }
}

/// The source class, and the rest of the line.
fn sender(line: &str) -> (SourceClass, &str) {
    match line.split_once(' ').expect("a source class") {
        ("pod", rest) => (SourceClass::Pod, rest),
        ("network", rest) => (SourceClass::Network, rest),
        _ => panic!("the source class of {line:?}: pod or network"),
    }
}

/// The destination.
fn destination(to: &str) -> (SocketAddr, Protocol) {
    let (destination, protocol) = to.split_once('/').expect("a protocol");
    let protocol = match protocol {
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        "sctp" => Protocol::SCTP,
        _ => panic!("the protocol of {to:?}: tcp, udp or sctp"),
    };
    (destination.parse().unwrap(), protocol)
}

/// Sends an echo request.
fn ping(world: &World<Contents>, class: SourceClass, (from, to): (IpAddr, IpAddr)) -> Outcome {
    let request = if to.is_ipv4() { 8 } else { 128 };
    let mut bytes = frame::icmp(from, to, (request, 0, 1), b"hello");
    let hook = Hook { point: HookPoint::Ingress, class, can_pass_to_stack: true };
    walk(&mut bytes, world, hook, &mut Scratch::default()).outcome
}

fn parsed(world: &World<Contents>, line: &str) -> Vec<Sent> {
    let (class, rest) = sender(line);
    let (source, to) = rest.split_once(" > ").expect("a source and a destination");
    let (destination, protocol) = destination(to);
    let sources: Vec<SocketAddr> = match source.strip_suffix('*') {
        Some(any) => (1000..2000).map(|port| format!("{any}{port}").parse().unwrap()).collect(),
        None => vec![source.parse().unwrap()],
    };
    let sent = |source| {
        let opens = match source {
            SocketAddr::V4(_) => {
                conntrack_entry::<V4>(world, source, destination, protocol).is_none()
            }
            SocketAddr::V6(_) => {
                conntrack_entry::<V6>(world, source, destination, protocol).is_none()
            }
        };
        Sent { source, destination, protocol, class, hook_point: HookPoint::Ingress, opens }
    };
    sources.into_iter().map(sent).collect()
}
