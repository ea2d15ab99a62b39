//! NAT of a new flow: whether its source is kept, becomes this node's address (SNAT) or the
//! frontend's (hairpin), and the source port that tells its replies from all others.

use lb_common::address::{Address, Port, Tuple};
use lb_common::backend::Backend;
use lb_common::conntrack::ConntrackEntry;
use lb_common::hash;
use lb_common::outcome::Outcome;
use lb_common::service::SourceClass;

use crate::hook::Hook;
use crate::world::World;

/// The source address of a flow's packets to `backend`, and the entry's flags.
///
/// # Errors
/// The outcome of a packet that cannot be sent to the backend from here.
#[inline(always)]
pub(super) fn source<A: Address, W: World<A>>(
    world: &W,
    hook: Hook,
    tuple: &Tuple<A>,
    backend: &Backend<A>,
) -> Result<(A, u8), Outcome> {
    if matches!(hook.class, SourceClass::Network) && !backend.is_local() {
        // The replies of a remote backend must return through this node.
        let device = world.fib_lookup(&backend.address).next_hop()?.device;
        let own = world.device_address(device);
        return if own.is_unspecified() {
            Err(Outcome::DroppedNoSnatAddress)
        } else {
            Ok((own, ConntrackEntry::<A>::SNAT))
        };
    }
    if !hook.can_pass_to_stack {
        return Err(Outcome::PassedLeftToTc);
    }
    if backend.address == tuple.source {
        // To itself, the pod is the frontend's address: it is the Service's, it routes back here, and
        // no socket has it as the source of a connection to this pod.
        return Ok((tuple.destination, ConntrackEntry::<A>::HAIRPIN));
    }
    Ok((tuple.source, 0))
}

/// The `attempt`th source port for a flow: spread by its hash, then in wide steps, so that attempts
/// neither cluster nor repeat. The multiplication brings the hash's low bits up: its high ones have
/// selected the backend already, and all flows of a backend would share a few ports.
#[inline(always)]
pub(crate) const fn snat_port(first: u16, count: u16, hash: u32, attempt: u32) -> Port {
    let spread = hash::reduce(hash.wrapping_add(attempt).wrapping_mul(0x9e37_79b1), count as u32);
    Port::new(first.wrapping_add(spread as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_of_one_backend_spread_over_all_ports() {
        const SLOTS: u32 = 1009;
        const PORTS: u16 = 64;
        let mut times = [0u32; PORTS as usize];
        let hashes = (0u32..1 << 22).map(|i| i.wrapping_mul(0x85eb_ca6b));
        for hash in hashes.filter(|hash| hash::reduce(*hash, SLOTS) == 7) {
            times[usize::from(snat_port(0, PORTS, hash, 0).number())] += 1;
        }
        let total: u32 = times.iter().sum();
        let fair = total / u32::from(PORTS);
        assert!(times.iter().all(|n| (fair / 2..=fair * 2).contains(n)), "{times:?}");
    }
}
