//! A packet on its way: its headers, the connection entry its fate hangs on, and what becomes of
//! both.

use lb_common::address::{Address, Port, Ports, Protocol, Tuple};
use lb_common::connection::{Connection, Place, State, Ticks};
use lb_common::filter;
use lb_common::fragment::{FirstFragment, Fragmented, HeldFragment};
use lb_common::outcome::{Ending, Outcome};
use lb_common::service::Frontend;

use crate::answer::Draft;
use crate::balance::{Hook, Onward, Walked, World};
use crate::choose::Choice;
use crate::packet::Packet;
use crate::tables::{Link, NextHop, Refusal, Route, Table};
use crate::wire::{Extent, Headers, IpVersion};
use crate::{choose, connect, rewrite};

/// A packet, and the connection entry its fate hangs on.
pub(crate) struct Flow<A: Address> {
    /// The packet's headers.
    pub headers: Headers<A>,
    /// The complete action for it.
    pub entry: Connection<A>,
    /// The frontend it was sent to.
    pub frontend: Frontend<A>,
    /// The key of the flow's other entry.
    pub answers: Tuple<A>,
    /// That other entry.
    pub answer: Connection<A>,
    /// Room to choose a backend in.
    pub choice: Choice<A>,
    /// The tuple of the packet that an ICMP error quotes.
    pub quoted: Tuple<A>,
    /// Which packet a fragment belongs to.
    pub fragmented: Fragmented<A>,
    /// How much of it.
    pub extent: Extent,
    /// A fragment that is held.
    pub held: HeldFragment<A>,
    /// What its first fragment said.
    pub first: FirstFragment,
    /// Room to write an answer in.
    pub draft: Draft,
    /// Largest packet that the way of this one carries, in bytes.
    pub mtu: u32,
    /// Link addresses to leave with, if `is_addressed`.
    link: Link,
    /// The device a packet leaves by, if it leaves at once. This and the next are kept for `onward`,
    /// which itself holds bytes without a value, as the verifier notices.
    device: u32,
    /// Whether its link addresses are set.
    is_addressed: bool,
    /// The connection table had no room for it.
    pub crowded: bool,
}

impl<A: Address> Flow<A> {
    pub fn new() -> Self {
        let entry = Connection::empty();
        Self {
            headers: Headers::empty(),
            entry,
            frontend: Frontend::new(A::zeroed(), Port::new(0), Protocol(0)),
            answers: entry.rewritten,
            answer: entry,
            choice: Choice::new(),
            quoted: entry.rewritten,
            fragmented: Fragmented::nothing(),
            extent: Extent::default(),
            held: HeldFragment { packet: Fragmented::nothing(), number: 0 },
            first: FirstFragment {
                ports: Ports([0; 4]),
                seen: Ticks(0),
                protocol: Protocol(0),
                held: 0,
                zeroes: 0,
                received: 0,
                total: 0,
            },
            draft: Draft::new(),
            mtu: 0,
            link: Link([0; 3]),
            device: 0,
            is_addressed: false,
            crowded: false,
        }
    }

    /// Finds the packet's entry, or begins one.
    #[inline(always)]
    pub fn find<W: World<A>>(&mut self, world: &W, hook: Hook) -> Result<(), Outcome> {
        if !world.see(Table::Established, &self.headers.tuple, &mut self.entry) {
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

    /// A packet of no established connection. Most are none of ours, which two bits and a mask tell;
    /// where one of them has told otherwise the rest are not asked.
    #[inline(always)]
    fn meet<W: World<A>>(&mut self, world: &W, hook: Hook) -> Result<(), Outcome> {
        let Tuple { source, source_port, destination, destination_port, protocol, .. } =
            &self.headers.tuple;
        let to_service = matches!(hook.place, Place::Ingress)
            && (world.may_concern(filter::position(destination, *destination_port, *protocol))
                || world.may_be_service(destination));
        if !to_service && !world.may_concern(filter::position(source, *source_port, *protocol)) {
            return Err(Outcome::NotAService);
        }
        meet_closer(self, world, hook, to_service)
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

    /// A packet to what may be a Service's, of no flow we know.
    #[inline(always)]
    fn begin<W: World<A>>(&mut self, world: &W, hook: Hook) -> Result<(), Outcome> {
        let tuple = &self.headers.tuple;
        self.frontend = Frontend::new(tuple.destination, tuple.destination_port, tuple.protocol);
        let Some(row) = world.frontend(&self.frontend) else {
            if self.headers.flags.opens() {
                self.clear_the_way(world);
            }
            let destination = &self.headers.tuple.destination;
            return Err(choose::beside_frontends(world, &mut self.choice, destination));
        };
        let (id, backend) =
            choose::backend(world, &mut self.choice, &self.headers.tuple, &row, hook.class)?;
        connect::begin(world, hook, self, id, &backend)
    }

    /// Whether this hook is where packets of the entry are translated.
    #[inline(always)]
    pub fn applies(&self, hook: Hook) -> Result<(), Outcome> {
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
        let may_move = self.headers.flags.opens() || self.headers.tuple.protocol == Protocol::UDP;
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
    fn notice<W: World<A>>(&mut self, world: &W, table: Table) {
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
            self.answers = self.entry.partner();
            world.set_state(table, &self.headers.tuple, state);
            world.set_state(table, &self.answers, state);
        }
    }

    /// Removes both entries of the flow.
    #[inline(always)]
    fn forget<W: World<A>>(&mut self, world: &W, table: Table) {
        self.answers = self.entry.partner();
        self.answer.rewritten = self.headers.tuple.reversed();
        world.remove(table, &self.headers.tuple);
        if world.leads_to(table, &self.answers, &self.answer.rewritten) {
            world.remove(table, &self.answers);
        }
    }

    /// A client opens a connection to a backend without its Service. An entry left over from an
    /// earlier connection through the Service would catch the answers: it goes, unless that
    /// connection lives.
    #[inline(always)]
    fn clear_the_way<W: World<A>>(&mut self, world: &W) {
        self.answers = self.headers.tuple.reversed();
        if world.find(Table::HalfOpen, &self.answers, &mut self.answer) {
            self.forget_other(world, Table::HalfOpen);
        }
        if world.find(Table::Established, &self.answers, &mut self.answer)
            && self.answer.state.is_over()
        {
            self.forget_other(world, Table::Established);
        }
    }

    /// Removes the flow whose answers are read into `answer`, under `answers`.
    #[inline(always)]
    pub(crate) fn forget_other<W: World<A>>(&mut self, world: &W, table: Table) {
        world.remove(table, &self.answers);
        let rewritten = self.answers.reversed();
        self.answers = self.answer.partner();
        self.answer.rewritten = rewritten;
        if world.leads_to(table, &self.answers, &self.answer.rewritten) {
            world.remove(table, &self.answers);
        }
    }

    /// The same for packets that leave at once, as a router would forward them.
    #[inline(always)]
    fn send_out<V, P, W>(&mut self, packet: &mut P, world: &W) -> Result<(), Outcome>
    where
        V: IpVersion<Address = A>,
        P: Packet + ?Sized,
        W: World<A>,
    {
        self.find_way(world)?;
        if self.mtu != 0 && packet.exceeds(self.mtu) {
            return Err(Outcome::RejectedTooBig);
        }
        rewrite::tuple::<V, P>(packet, &self.headers, &self.entry.rewritten, 1)?;
        self.address(packet)
    }

    /// Finds the way to where the entry sends its packets.
    #[inline(always)]
    pub fn find_way<W: World<A>>(&mut self, world: &W) -> Result<(), Outcome> {
        let next_hop = known(world.route(&self.entry.rewritten.destination))?;
        if self.headers.hops <= 1 {
            return Err(Outcome::RejectedTtlExpired);
        }
        self.mtu = next_hop.mtu;
        self.device = next_hop.device;
        self.is_addressed = false;
        if let Some(link) = next_hop.link {
            self.link = link;
            self.is_addressed = true;
        }
        Ok(())
    }

    /// Addresses the frame to the next hop found, if its neighbour is resolved.
    #[inline(always)]
    pub fn address<P: Packet + ?Sized>(&self, packet: &mut P) -> Result<(), Outcome> {
        if self.is_addressed { Ok(rewrite::link(packet, &self.link)?) } else { Ok(()) }
    }

    /// The end of a walk with `outcome`.
    #[inline(always)]
    pub fn walked(&self, outcome: Outcome) -> Walked {
        match outcome.ending() {
            Ending::Translated => Walked { outcome, onward: self.onward() },
            Ending::Passed | Ending::Answered | Ending::Held | Ending::Dropped => outcome.into(),
        }
    }

    /// Where a translated packet goes from here.
    #[inline(always)]
    const fn onward(&self) -> Onward {
        match (self.entry.goes_out(), self.entry.goes_back()) {
            (true, _) if self.is_addressed => Onward::Out(self.device),
            (true, _) => Onward::Resolve(self.device),
            (false, true) => Onward::Back,
            (false, false) => Onward::On,
        }
    }

    /// The outcome of a packet that was sent on its way.
    #[inline(always)]
    pub fn outcome(&self) -> Outcome {
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

/// Changes the packet as its entry says, and says where it goes.
#[inline(always)]
pub(crate) fn send<V, P, W>(
    flow: &mut Flow<V::Address>,
    packet: &mut P,
    world: &W,
) -> Result<(), Outcome>
where
    V: IpVersion,
    P: Packet + ?Sized,
    W: World<V::Address>,
{
    let length = packet.length();
    if flow.entry.goes_out() {
        flow.send_out::<V, P, W>(packet, world)?;
    } else {
        rewrite::tuple::<V, P>(packet, &flow.headers, &flow.entry.rewritten, 0)?;
        if flow.entry.goes_back() {
            rewrite::turn_back(packet)?;
        }
    }
    world.count_packet(flow.entry.backend, flow.entry.is_reply(), u64::from(length));
    Ok(())
}

/// A packet of no established connection that may be ours. Few are, so this is a function of its own
/// in the kernel: the BPF stack holds what it needs only then, and the way of all other packets has
/// no call in it. It returns a single word, as BPF functions must.
#[inline(never)]
fn meet_closer<A: Address, W: World<A>>(
    flow: &mut Flow<A>,
    world: &W,
    hook: Hook,
    to_service: bool,
) -> Result<(), Outcome> {
    if world.see(Table::HalfOpen, &flow.headers.tuple, &mut flow.entry) {
        flow.applies(hook)?;
        if !flow.is_over(world) && flow.half_open(world)? {
            return Ok(());
        }
        flow.forget(world, Table::HalfOpen);
    }
    if to_service { flow.begin(world, hook) } else { Err(Outcome::NotAService) }
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
