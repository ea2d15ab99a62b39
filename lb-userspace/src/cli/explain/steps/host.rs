//! Steps that ask the host: fragments, routes, devices, rate limits, sockets.

use lb_common::address::{Address, Tuple};
use lb_common::fragment::Fragmented;
use lb_ebpf::world::{FibResult, RateLimit};

use super::recorder::{Step, Steps};
use crate::cli::explain::node::NodeView;

impl<N: NodeView> Steps<'_, N> {
    pub(super) fn fib<A: Address>(&self, destination: &A, result: FibResult) -> Step {
        let result = match result {
            FibResult::Found(next_hop) => format!("by {}", self.node.device(next_hop.device)),
            FibResult::LeftToTc => "left to TC".into(),
            FibResult::Unreachable => "no route".into(),
        };
        let detail = format!("the route to {destination}: {result}");
        Step::new(format!("FIB lookup {destination}"), result, detail)
    }

    pub(super) fn source_address<A: Address>(&self, device: u32, address: &A) -> Step {
        let name = self.node.device(device);
        let result = if address.is_unspecified() { "none".into() } else { address.to_string() };
        let detail = format!("what leaves by {name} gets the source address {result}");
        Step::new(format!("source address of {name}"), result, detail)
    }
}

pub(super) fn fragment<A: Address>(packet: &Fragmented<A>, found: bool) -> Step {
    let result = if found { "hit" } else { "miss" };
    let detail = format!("fragments of {} to {}: {result}", packet.source, packet.destination);
    Step::new("fragment lookup", result, detail)
}

pub(super) fn rate_limit(limit: RateLimit, allowed: bool) -> Step {
    let result = if allowed { "allowed (assumed)" } else { "reached" };
    let of = format!("rate limit of {}", limit.name());
    Step::new(of.clone(), result, format!("the {of}: {result}"))
}

pub(super) fn socket_exists<A: Address>(tuple: &Tuple<A>, exists: bool) -> Step {
    let result = if exists { "yes" } else { "none (assumed)" };
    let detail = format!("is {tuple} used by a local socket? {result}");
    Step::new(format!("local socket {tuple}"), result, detail)
}
