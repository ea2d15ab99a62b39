//! The walk of a packet: follow its connection, or begin one, or leave it alone.

use lb_common::address::{Address, Family, V4, V6};
use lb_common::connection::Place;
use lb_common::outcome::{Ending, Outcome};
use lb_common::service::SourceClass;

use crate::flow::{Flow, send};
use crate::packet::{Packet, Unwritable};
use crate::tables::{Connections, Memories, Node, Tables};
use crate::wire::{IpVersion, Ipv4, Ipv6, family, has_tag};
use crate::{answer, unusual};

/// What a walk has to know of the hook it starts from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hook {
    /// Whether packets here are on their way into the stack or out of it.
    pub place: Place,
    /// Who sends the packets that come in here.
    pub class: SourceClass,
    /// Whether a translated packet can go on from here to where it was going: up the stack, or out
    /// of the device. Where it cannot, packets that would have to are left for a later hook.
    pub goes_on: bool,
}

/// Where the packet goes from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Onward {
    /// On, to where it was going.
    On,
    /// Nowhere.
    Drop,
    /// Out of this device; its link addresses are set.
    Out(u32),
    /// Out of this device, once the neighbour is resolved; its link addresses are not set.
    Resolve(u32),
    /// Out of the device it came in by; its link addresses are set.
    Back,
}

/// How a walk ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walked {
    /// Its outcome, to be counted.
    pub outcome: Outcome,
    /// Where the packet goes from here.
    pub onward: Onward,
}

impl From<Outcome> for Walked {
    /// An outcome without translation. An answer goes to whom the packet came from.
    fn from(outcome: Outcome) -> Self {
        let onward = match outcome.ending() {
            Ending::Passed | Ending::Translated => Onward::On,
            Ending::Answered => Onward::Back,
            Ending::Held | Ending::Dropped => Onward::Drop,
        };
        Self { outcome, onward }
    }
}

impl From<Unwritable> for Outcome {
    fn from(Unwritable: Unwritable) -> Self {
        Self::Unwritable
    }
}

/// All that a walk may ask about one family.
pub trait World<A: Address>: Tables<A> + Connections<A> + Memories<A> + Node<A> {}
impl<A: Address, W: Tables<A> + Connections<A> + Memories<A> + Node<A>> World<A> for W {}

/// Walks a packet of either family, in the room that `flows` gives.
#[inline(always)]
pub fn balance<P, W>(packet: &mut P, world: &W, hook: Hook, flows: &mut Flows) -> Walked
where
    P: Packet + ?Sized,
    W: World<V4> + World<V6>,
{
    match family(packet) {
        Some(Family::V4) => {
            let outcome = walk::<Ipv4, P, W>(packet, world, hook, &mut flows.v4);
            flows.v4.walked(outcome)
        }
        Some(Family::V6) => {
            let outcome = walk::<Ipv6, P, W>(packet, world, hook, &mut flows.v6);
            flows.v6.walked(outcome)
        }
        None if has_tag(packet) => Outcome::Vlan.into(),
        None => Outcome::NotIp.into(),
    }
}

/// Walks a packet of one family.
#[inline(always)]
fn walk<V, P, W>(packet: &mut P, world: &W, hook: Hook, flow: &mut Flow<V::Address>) -> Outcome
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    flow.crowded = false;
    let read = match V::read(packet, &mut flow.headers) {
        Err(unusual) if unusual::is_unusual(unusual) => {
            if !hook.goes_on {
                return Outcome::LeftToTc;
            }
            unusual::read::<V, P, W>(flow, packet, world, hook, unusual)
        }
        read => read,
    };
    if let Err(outcome) = read {
        return outcome;
    }
    let walked = match flow.find(world, hook) {
        Ok(()) => send::<V, P, W>(flow, packet, world),
        Err(outcome) => Err(outcome),
    };
    match walked {
        Ok(()) => flow.outcome(),
        Err(outcome) if matches!(outcome.ending(), Ending::Answered) && hook.goes_on => {
            answer::give::<V, P, W>(flow, packet, world, outcome)
        }
        Err(outcome) if matches!(outcome.ending(), Ending::Answered) => Outcome::LeftToTc,
        Err(outcome) => outcome,
    }
}

/// Room for a walk of either family; nothing in it outlives the walk. In the kernel it is a map's
/// value: the BPF stack is 512 bytes, of which an IPv6 entry would be an eighth, and allows no
/// access that is not aligned.
pub struct Flows {
    v4: Flow<V4>,
    v6: Flow<V6>,
}

impl Flows {
    /// Room for a walk.
    #[must_use]
    pub fn new() -> Self {
        Self { v4: Flow::new(), v6: Flow::new() }
    }
}

impl Default for Flows {
    fn default() -> Self {
        Self::new()
    }
}
