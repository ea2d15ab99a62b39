//! Traces through the small node of [`crate::cli::sample`].

mod calls;
mod packets;
mod unseen;

use std::net::{IpAddr, SocketAddr};

use lb_common::address::{V4, endpoint};
use lb_common::conntrack::HookPoint;
use lb_common::outcome::Outcome;
use lb_common::service::SourceClass;
use lb_ebpf::hook::Hook;
use lb_ebpf::in_memory::World;
use lb_ebpf::walk::{Scratch, walk};
use lb_ebpf::world::{NextHop, Table};

use super::args::{Destination, Sender};
use super::node::{ControlGroup, NodeView};
use super::packet;
use super::programs::Unseen;
use super::trace::{Question, Trace};
use crate::cli::sample;
use crate::host::devices::RouteTarget;
use crate::maps::Contents;

/// The node around the maps: pods behind veth1, 198.18.0.0/15 behind eth1, which has no programs, the rest behind
/// eth0.
struct SampleNode;

impl NodeView for SampleNode {
    fn route(&self, destination: IpAddr) -> RouteTarget {
        match destination.to_string().as_str() {
            "192.0.2.1" => RouteTarget::Local,
            "203.0.113.1" => RouteTarget::Unreachable,
            text if text.starts_with("10.244.1.") => RouteTarget::Device { index: 5, source: None },
            text if text.starts_with("198.18.") => RouteTarget::Device { index: 3, source: None },
            _ => RouteTarget::Device { index: 2, source: None },
        }
    }

    fn device(&self, index: u32) -> String {
        match index {
            2 => "eth0".into(),
            3 => "eth1".into(),
            _ => "veth1".into(),
        }
    }

    fn unseen(&self, device: u32, _: HookPoint) -> Option<Unseen> {
        let because = "eth1 has no programs (not among --network-devices)".into();
        (device == 3).then(|| Unseen { because, advice: "name it".into() })
    }

    fn seen_at(&self, device: u32) -> String {
        self.device(device)
    }

    fn control_group(&self) -> ControlGroup {
        ControlGroup::At("/sys/fs/cgroup".into())
    }
}

fn world() -> World<Contents> {
    let mut world = World::new(sample::contents());
    for (address, device) in [([10, 244, 1, 1], 5), ([10, 244, 2, 1], 2), ([192, 0, 2, 9], 2)] {
        world.v4.routes.insert(V4(address), NextHop { device, mtu: 0, link: None });
    }
    world.v4.device_addresses.insert(2, V4([192, 0, 2, 1]));
    world
}

fn question(sender: &str, destination: &str, class: SourceClass) -> Question {
    Question {
        sender: sender.parse::<Sender>().unwrap(),
        destination: destination.parse::<Destination>().unwrap(),
        class,
        because: "given by --from".into(),
        device: None,
    }
}

fn trace(world: &World<Contents>, question: &Question) -> Trace {
    Trace::of(world, &SampleNode, &sample::contents(), question)
}

/// Sends a packet, whose outcome it returns.
fn send(
    world: &World<Contents>,
    (from, to): (&str, &str),
    class: SourceClass,
    opens: bool,
) -> Outcome {
    let Destination { address, port, protocol } = to.parse().unwrap();
    let from: SocketAddr = from.parse().unwrap();
    let mut frame = packet::frame(from, endpoint(address, port), protocol, opens).unwrap();
    let point = if class == SourceClass::Host { HookPoint::Egress } else { HookPoint::Ingress };
    let hook = Hook { point, class, can_pass_to_stack: true };
    walk(&mut frame, world, hook, &mut Scratch::new()).outcome
}

/// The first port from which a new flow of `sender` ends with `outcome`: which backend a flow gets
/// hangs on its hash.
fn sender(address: &str, to: &str, class: SourceClass, outcome: Outcome) -> String {
    let mut ports = (40_000..41_000).map(|port| format!("{address}:{port}"));
    let ends = |from: &String| send(&world(), (from, to), class, true) == outcome;
    ports.find(ends).expect("one port of a thousand leads to each backend")
}
