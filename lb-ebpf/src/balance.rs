//! The walk of a packet: follow its connection, or begin one, or leave it alone.

use lb_common::address::{Address, Family, Protocol, Tuple, V4, V6};
use lb_common::connection::{Connection, Place, State};
use lb_common::filter;
use lb_common::outcome::{Ending, Outcome};
use lb_common::service::SourceClass;

use crate::packet::{Packet, Unwritable};
use crate::tables::{Connections, NextHop, Node, Refusal, Route, Table, Tables};
use crate::wire::{Headers, IpVersion, Ipv4, Ipv6, family};
use crate::{choose, connect, rewrite};

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
    /// An outcome without translation.
    fn from(outcome: Outcome) -> Self {
        let onward = match outcome.ending() {
            Ending::Passed | Ending::Translated => Onward::On,
            Ending::Dropped => Onward::Drop,
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
pub trait World<A: Address>: Tables<A> + Connections<A> + Node<A> {}
impl<A: Address, W: Tables<A> + Connections<A> + Node<A>> World<A> for W {}

/// Walks a packet of either family.
#[inline(always)]
pub fn balance<P, W>(packet: &mut P, world: &W, hook: Hook) -> Walked
where
    P: Packet + ?Sized,
    W: World<V4> + World<V6>,
{
    match family(packet) {
        Some(Family::V4) => walk::<Ipv4, P, W>(packet, world, hook),
        Some(Family::V6) => walk::<Ipv6, P, W>(packet, world, hook),
        None => Outcome::NotIp.into(),
    }
}

/// Walks a packet of one family. Apart from its caller, so that the BPF stack holds one family's
/// values at a time.
#[inline(never)]
fn walk<V, P, W>(packet: &mut P, world: &W, hook: Hook) -> Walked
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    let headers = match V::read(packet) {
        Ok(headers) => headers,
        Err(outcome) => return outcome.into(),
    };
    let mut flow = Flow { headers, entry: Connection::empty(), crowded: false };
    match flow.find(world, hook).and_then(|()| flow.send::<V, P, W>(packet, world)) {
        Ok(onward) => Walked { outcome: flow.outcome(), onward },
        Err(outcome) => outcome.into(),
    }
}

/// A packet, and the connection entry its fate hangs on. The steps of a walk fill it in place: a
/// copy of an IPv6 entry is an eighth of the BPF stack.
pub(crate) struct Flow<A: Address> {
    /// The packet's headers.
    pub headers: Headers<A>,
    /// The complete action for it.
    pub entry: Connection<A>,
    /// The connection table had no room for it.
    crowded: bool,
}

impl<A: Address> Flow<A> {
    /// Finds the packet's entry, or begins one.
    #[inline(always)]
    fn find<W: World<A>>(&mut self, world: &W, hook: Hook) -> Result<(), Outcome> {
        let now = world.now();
        if !world.see(Table::Established, &self.headers.tuple, now, &mut self.entry) {
            return self.meet(world, hook);
        }
        self.applies(hook)?;
        if self.is_over(world) {
            self.forget(world, Table::Established);
            return self.meet(world, hook);
        }
        self.notice(world, Table::Established);
        Ok(())
    }

    /// A packet of no established connection. Most are none of ours, which two bits tell.
    #[inline(always)]
    fn meet<W: World<A>>(&mut self, world: &W, hook: Hook) -> Result<(), Outcome> {
        let tuple = &self.headers.tuple;
        let from_backend =
            world.may_concern(filter::position(&tuple.source, tuple.source_port, tuple.protocol));
        let to_frontend = matches!(hook.place, Place::Ingress)
            && world.may_concern(filter::position(
                &tuple.destination,
                tuple.destination_port,
                tuple.protocol,
            ));
        if !from_backend && !to_frontend {
            return Err(Outcome::NotAService);
        }
        meet_closer(self, world, hook, to_frontend)
    }

    /// A packet of a flow that is not established yet. Returns whether the flow can go on; if it has
    /// lost its answers to another, it must begin anew.
    #[inline(always)]
    fn half_open<W: World<A>>(&mut self, world: &W) -> Result<bool, Outcome> {
        let confirmed = self.entry.state.has(State::ANSWERED) && !self.headers.flags.opens();
        if !self.entry.is_reply() && confirmed {
            if connect::establish(world, self).is_ok() {
                self.notice(world, Table::Established);
                return Ok(true);
            }
            self.crowded = true;
        } else if !self.entry.is_reply() && !connect::complete(world, self)? {
            return Ok(false);
        }
        self.notice(world, Table::HalfOpen);
        Ok(true)
    }

    /// A packet to what may be a frontend, of no flow we know.
    #[inline(always)]
    fn begin<W: World<A>>(&mut self, world: &W, hook: Hook) -> Result<(), Outcome> {
        let Some(row) = choose::frontend(world, &self.headers.tuple) else {
            if self.headers.flags.opens() {
                self.clear_the_way(world);
            }
            return Err(Outcome::NotAService);
        };
        let (id, backend) = choose::backend(world, &row, hook.class, &self.headers.tuple)?;
        connect::begin(world, hook, self, id, &backend)
    }

    /// Whether this hook is where packets of the entry are translated.
    #[inline(always)]
    fn applies(&self, hook: Hook) -> Result<(), Outcome> {
        if self.entry.place() != hook.place {
            Err(Outcome::OtherHook)
        } else if !hook.goes_on && !self.entry.goes_out() {
            Err(Outcome::LeftToTc)
        } else {
            Ok(())
        }
    }

    /// Whether this packet must not follow the entry but begin anew: its connection has ended, or
    /// its backend no longer serves and nothing would be lost by moving.
    #[inline(always)]
    fn is_over<W: World<A>>(&self, world: &W) -> bool {
        let may_move =
            self.headers.flags.opens() || self.headers.tuple.protocol == Protocol::UDP;
        if self.entry.is_reply() || !may_move {
            return false;
        }
        if self.entry.state.is_over() {
            return true;
        }
        match world.backend(self.entry.backend) {
            Some(row) => row.generation != self.entry.generation || !row.is_serving(),
            None => true,
        }
    }

    /// Follows the connection's state.
    #[inline(always)]
    fn notice<W: World<A>>(&self, world: &W, table: Table) {
        let before = match table {
            Table::Established => self.entry.state.with(State::ESTABLISHED),
            Table::HalfOpen => self.entry.state,
        };
        let is_reply = self.entry.is_reply();
        let mut state = if is_reply { before.with(State::ANSWERED) } else { before };
        if self.headers.flags.resets() {
            state = state.with(State::RESET);
        } else {
            // A reset that both sides ignore was forged, or lost its way.
            state = state.without(State::RESET);
            if self.headers.flags.closes() {
                let closed = if is_reply { State::BACKEND_CLOSED } else { State::CLIENT_CLOSED };
                state = state.with(closed);
            }
        }
        if state != before {
            world.set_state(table, &self.headers.tuple, state);
            world.set_state(table, &self.entry.partner(), state);
        }
    }

    /// Removes both entries of the flow.
    #[inline(always)]
    fn forget<W: World<A>>(&self, world: &W, table: Table) {
        forget(world, table, &self.headers.tuple, &self.entry);
    }

    /// A client opens a connection to a backend without its Service. An entry left over from an
    /// earlier connection through the Service would catch the answers: it goes, unless that
    /// connection lives.
    #[inline(always)]
    fn clear_the_way<W: World<A>>(&mut self, world: &W) {
        let answers = self.headers.tuple.reversed();
        if world.find(Table::HalfOpen, &answers, &mut self.entry) {
            forget(world, Table::HalfOpen, &answers, &self.entry);
        }
        if world.find(Table::Established, &answers, &mut self.entry) && self.entry.state.is_over()
        {
            forget(world, Table::Established, &answers, &self.entry);
        }
    }

    /// Changes the packet as its entry says, and says where it goes.
    #[inline(always)]
    fn send<V, P, W>(&self, packet: &mut P, world: &W) -> Result<Onward, Outcome>
    where
        V: IpVersion<Address = A>,
        P: Packet + ?Sized,
        W: World<A>,
    {
        let length = packet.length();
        let onward = if self.entry.goes_out() {
            self.send_out::<V, P, W>(packet, world)?
        } else {
            rewrite::tuple::<V, P>(packet, &self.headers, &self.entry.rewritten, 0)?;
            if self.entry.goes_back() {
                rewrite::turn_back(packet)?;
                Onward::Back
            } else {
                Onward::On
            }
        };
        world.count_packet(self.entry.backend, self.entry.is_reply(), u64::from(length));
        Ok(onward)
    }

    /// The same for packets that leave at once, as a router would forward them.
    #[inline(always)]
    fn send_out<V, P, W>(&self, packet: &mut P, world: &W) -> Result<Onward, Outcome>
    where
        V: IpVersion<Address = A>,
        P: Packet + ?Sized,
        W: World<A>,
    {
        let next_hop = known(world.route(&self.entry.rewritten.destination))?;
        if self.headers.hops <= 1 {
            return Err(Outcome::TtlExpired);
        }
        if next_hop.mtu != 0 && packet.exceeds(next_hop.mtu) {
            return Err(Outcome::TooBig);
        }
        rewrite::tuple::<V, P>(packet, &self.headers, &self.entry.rewritten, 1)?;
        match next_hop.link {
            Some(link) => {
                rewrite::link(packet, &link)?;
                Ok(Onward::Out(next_hop.device))
            }
            None => Ok(Onward::Resolve(next_hop.device)),
        }
    }

    /// The outcome of a packet that was sent on its way.
    #[inline(always)]
    fn outcome(&self) -> Outcome {
        let entry = &self.entry;
        match (entry.is_reply(), entry.goes_out(), entry.goes_back()) {
            (false, ..) if self.crowded => Outcome::ForwardedCrowded,
            (false, true, _) => Outcome::ForwardedOut,
            (false, false, true) => Outcome::ForwardedBack,
            (false, false, false) => Outcome::Forwarded,
            (true, true, _) => Outcome::RepliedOut,
            (true, false, true) => Outcome::RepliedBack,
            (true, false, false) => Outcome::Replied,
        }
    }
}

/// A packet of no established connection that may be ours. Apart from the walk, so that the BPF
/// stack holds what new flows need only while they need it.
#[inline(never)]
fn meet_closer<A: Address, W: World<A>>(
    flow: &mut Flow<A>,
    world: &W,
    hook: Hook,
    to_frontend: bool,
) -> Result<(), Outcome> {
    let now = world.now();
    if world.see(Table::HalfOpen, &flow.headers.tuple, now, &mut flow.entry) {
        flow.applies(hook)?;
        if !flow.is_over(world) && flow.half_open(world)? {
            return Ok(());
        }
        flow.forget(world, Table::HalfOpen);
    }
    if to_frontend { flow.begin(world, hook) } else { Err(Outcome::NotAService) }
}

/// Removes both entries of a flow; what stands in its partner's place and is not its partner stays.
#[inline(always)]
pub(crate) fn forget<A: Address, W: World<A>>(
    world: &W,
    table: Table,
    tuple: &Tuple<A>,
    entry: &Connection<A>,
) {
    let partner = entry.partner();
    world.remove(table, tuple);
    if world.leads_to(table, &partner, &tuple.reversed()) {
        world.remove(table, &partner);
    }
}

/// Lets a refusal to write end the walk.
impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Exists | Refusal::Full => Self::TableFull,
        }
    }
}

/// Lets a missing way end the walk.
#[inline(always)]
pub(crate) const fn known(route: Route) -> Result<NextHop, Outcome> {
    match route {
        Route::Known(next_hop) => Ok(next_hop),
        Route::Unknown => Err(Outcome::LeftToTc),
        Route::Unreachable => Err(Outcome::NoRoute),
    }
}
