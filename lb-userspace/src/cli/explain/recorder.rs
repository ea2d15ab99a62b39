//! A world that writes down, in words, every question of a walk and its answer.

use std::cell::RefCell;
use std::fmt::Display;

use lb_common::address::{Address, Family, Tuple, endpoint};
use lb_common::affinity::{Affinity, Client};
use lb_common::backend::{Backend, BackendId};
use lb_common::connection::{Connection, State, Ticks};
use lb_common::filter::Position;
use lb_common::fragment::{FirstFragment, Fragmented, HeldFragment};
use lb_common::service::{AddressRow, Frontend, FrontendRow, ServiceId, SourceClass, Verdict};
use lb_common::settings::Settings;
use lb_common::source_range::SourceRange;
use lb_ebpf::packet::{Packet, Unwritable};
use lb_ebpf::tables::{Connections, Memories, Node, Refusal, Route, Table, Tables};
use serde::Serialize;

use super::node::Around;
use crate::maps::Contents;

/// One question of a walk and its answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Step {
    /// What the walk asked, or did.
    pub asked: String,
    /// What it was answered.
    pub answer: String,
}

/// A world around `world`.
pub struct Recorder<'a, W, N> {
    world: &'a W,
    node: &'a N,
    contents: &'a Contents,
    class: SourceClass,
    /// Whether it is a process's call that walks, and not a packet.
    is_call: bool,
    /// The filter's positions that are asked for, in words.
    positions: Vec<(Position, String)>,
    steps: RefCell<Vec<Step>>,
}

impl<'a, W, N: Around> Recorder<'a, W, N> {
    /// Records a walk of a packet of `class` in `world`; `positions` are its ends'.
    pub fn new(
        world: &'a W,
        node: &'a N,
        contents: &'a Contents,
        class: SourceClass,
        positions: Vec<(Position, String)>,
    ) -> Self {
        let (is_call, steps) = (false, RefCell::default());
        Self { world, node, contents, class, is_call, positions, steps }
    }

    /// Records a process's call instead.
    pub fn of_a_call(self) -> Self {
        Self { is_call: true, ..self }
    }

    /// What was recorded.
    pub fn steps(self) -> Vec<Step> {
        self.steps.into_inner()
    }

    fn note(&self, asked: impl Display, answer: impl Display) {
        let step = Step { asked: asked.to_string(), answer: answer.to_string() };
        self.steps.borrow_mut().push(step);
    }

    fn name(&self, service: ServiceId) -> String {
        let label = self.contents.services.get(&service);
        label.map_or_else(|| format!("Service port {service}"), |label| format!("{label:?}"))
    }

    /// What is remembered under a tuple.
    fn remembered<A: Address>(&self, entry: &Connection<A>) -> String {
        let Connection { rewritten, state, .. } = entry;
        let direction = if entry.is_reply() { "answers of a flow" } else { "a flow" };
        let service = self.name(entry.service);
        format!("{direction} to {service}, {}, leaves as {rewritten}", state.name())
    }

    fn own(&self, family: Family, settings: &Settings) {
        let own = match family {
            Family::V4 => settings.own_v4.to_ip(),
            Family::V6 => settings.own_v6.to_ip(),
        };
        let answer = if own.is_unspecified() { "none".into() } else { own.to_string() };
        self.note("Which address of this node stands for its processes?", answer);
    }

    fn first_or_missing<A: Address>(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        entry: Option<&Connection<A>>,
    ) {
        let answer = entry.map_or_else(|| "no".into(), |entry| self.remembered(entry));
        self.note(format!("Is {tuple} among {}?", name(table)), answer);
    }
}

/// The flows of a table.
const fn name(table: Table) -> &'static str {
    match table {
        Table::Established => "the established connections",
        Table::HalfOpen => "the half-open connections",
    }
}

/// Why a packet leaves as it does.
fn reason<A: Address>(entry: &Connection<A>) -> &'static str {
    match (entry.is_reply(), entry.goes_out(), entry.goes_back()) {
        (true, ..) => "",
        (false, true, _) => {
            ", at once: its backend is elsewhere, and the answers have to come back through this node"
        }
        (false, false, true) => ", back to the pod it came from, which is its own backend",
        (false, false, false) => ", by way of the node's stack",
    }
}

impl<A: Address, W: Tables<A>, N: Around> Tables<A> for Recorder<'_, W, N> {
    fn frontend(&self, frontend: &Frontend<A>) -> Option<FrontendRow> {
        let row = self.world.frontend(frontend);
        let answer = row.map_or_else(
            || "no".into(),
            |row| {
                let pool = row.pool(self.class);
                let gets = match pool.verdict() {
                    None => format!("one of {} slots from {}", pool.length, pool.base),
                    Some(Verdict::NoEndpoint) => "nothing, for there is no endpoint".into(),
                    Some(Verdict::NoLocalEndpoint) => {
                        "nothing, for its policy wants an endpoint here and there is none".into()
                    }
                };
                format!(
                    "yes, of {}; a sender of class {} gets {gets}",
                    self.name(row.service),
                    self.class
                )
            },
        );
        self.note(format!("Is {frontend} a frontend?"), answer);
        row
    }

    fn address(&self, address: &A) -> Option<AddressRow> {
        let row = self.world.address(address);
        let answer = match row {
            None => "no",
            Some(row) if row.rejects() => {
                "yes: a cluster IP, of which no other port is a Service's"
            }
            Some(row) if row.answers_ping() => "yes: a Service's",
            Some(_) => "yes: this node's",
        };
        self.note(format!("Is {address} an address of a Service or of this node?"), answer);
        row
    }

    fn may_be_service(&self, address: &A) -> bool {
        let may = self.world.may_be_service(address);
        let asked = format!("Is {address} among the addresses that Services are given?");
        self.note(asked, if may { "perhaps" } else { "no" });
        may
    }

    fn allows(&self, client: &SourceRange<A>) -> bool {
        let allows = self.world.allows(client);
        let asked = if client.service == SourceRange::<A>::CLUSTER {
            format!("Is {} within a service CIDR of the cluster?", client.address)
        } else {
            let service = self.name(client.service);
            format!("Is {} within the source ranges of {service}?", client.address)
        };
        self.note(asked, if allows { "yes" } else { "no" });
        allows
    }

    fn slot(&self, index: u32) -> Option<BackendId> {
        let id = Tables::<A>::slot(self.world, index);
        let answer = id.map_or_else(|| "none".into(), |id| format!("backend {id}"));
        let by = if self.is_call {
            "drawn for this call, as for each anew"
        } else {
            "to which the tuple hashes"
        };
        self.note(format!("What is in slot {index}, {by}?"), answer);
        id
    }

    fn backend(&self, id: BackendId) -> Option<Backend<A>> {
        let row = Tables::<A>::backend(self.world, id);
        let answer = row.map_or_else(
            || "none: its row is free".into(),
            |row| {
                let at = endpoint(row.address.to_ip(), row.port);
                let place = if row.is_local() { "on this node" } else { "elsewhere" };
                let serving = if row.is_serving() { "serving" } else { "no longer serving" };
                format!("{at}/{}, {place}, {serving}", row.protocol)
            },
        );
        self.note(format!("What is backend {id}?"), answer);
        row
    }

    fn may_concern(&self, position: Position) -> bool {
        let may = Tables::<A>::may_concern(self.world, position);
        let asked = self.positions.iter().find(|(known, _)| *known == position);
        let end = asked.map_or("it", |(_, end)| end.as_str());
        let answer = if may { "maybe" } else { "no" };
        self.note(format!("May {end} be a frontend or a backend, by the filter?"), answer);
        may
    }

    fn settings(&self) -> Settings {
        let settings = Tables::<A>::settings(self.world);
        if self.is_call {
            self.own(A::FAMILY, &settings);
            return settings;
        }
        let Settings { first_source_port: first, source_ports: count, .. } = settings;
        let answer = match count.checked_sub(1) {
            Some(more) => format!("{first} to {}", u32::from(first) + u32::from(more)),
            None => "none: the agent has not said yet".into(),
        };
        self.note("Which source ports are there for translated flows?", answer);
        settings
    }
}

impl<A: Address, W: Connections<A>, N: Around> Connections<A> for Recorder<'_, W, N> {
    fn see(&self, table: Table, tuple: &Tuple<A>, entry: &mut Connection<A>) -> bool {
        let found = self.world.see(table, tuple, entry);
        self.first_or_missing(table, tuple, found.then_some(entry));
        found
    }

    fn find(&self, table: Table, tuple: &Tuple<A>, entry: &mut Connection<A>) -> bool {
        let found = self.world.find(table, tuple, entry);
        self.first_or_missing(table, tuple, found.then_some(entry));
        found
    }

    fn leads_to(&self, table: Table, tuple: &Tuple<A>, rewritten: &Tuple<A>) -> bool {
        let leads = self.world.leads_to(table, tuple, rewritten);
        let asked = format!("Does {tuple} among {} leave as {rewritten}?", name(table));
        self.note(asked, if leads { "yes" } else { "no" });
        leads
    }

    fn add(&self, table: Table, tuple: &Tuple<A>, entry: &Connection<A>) -> Result<(), Refusal> {
        let added = self.world.add(table, tuple, entry);
        let what = if entry.is_reply() { "answers, " } else { "" };
        let answer = match added {
            Ok(()) => format!("leaves as {}{}", entry.rewritten, reason(entry)),
            Err(Refusal::Exists) => "refused: there is such an entry".into(),
            Err(Refusal::Full) => "refused: there is no room".into(),
        };
        self.note(format!("Remember {what}{tuple} among {}", name(table)), answer);
        added
    }

    fn set_state(&self, table: Table, tuple: &Tuple<A>, state: State) {
        self.world.set_state(table, tuple, state);
        self.note(format!("Mark {tuple} among {}", name(table)), state.name());
    }

    fn remove(&self, table: Table, tuple: &Tuple<A>) {
        self.world.remove(table, tuple);
        self.note(format!("Forget {tuple} among {}", name(table)), "done");
    }

    fn count_connection(&self, backend: BackendId) {
        self.world.count_connection(backend);
    }

    fn count_packet(&self, backend: BackendId, reply: bool, bytes: u64) {
        self.world.count_packet(backend, reply, bytes);
    }
}

impl<A: Address, W: Memories<A>, N: Around> Memories<A> for Recorder<'_, W, N> {
    fn affinity(&self, client: &Client<A>) -> Option<Affinity> {
        let affinity = self.world.affinity(client);
        let answer = affinity.map_or_else(|| "none".into(), |a| format!("backend {}", a.backend));
        let service = self.name(client.service);
        self.note(format!("Which backend of {service} did {} get last?", client.address), answer);
        affinity
    }

    fn keep_affinity(&self, client: &Client<A>, affinity: &Affinity, instead: bool) -> bool {
        let kept = self.world.keep_affinity(client, affinity, instead);
        let answer = if kept { "done" } else { "refused: there is one already" };
        self.note(format!("Remember backend {} for {}", affinity.backend, client.address), answer);
        kept
    }

    fn first_fragment(&self, packet: &Fragmented<A>, first: &mut FirstFragment) -> bool {
        self.world.first_fragment(packet, first)
    }

    fn forget_fragment(&self, packet: &Fragmented<A>) {
        self.world.forget_fragment(packet);
    }

    fn hold<P: Packet + ?Sized>(&self, held: &HeldFragment<A>, frame: &mut P) -> bool {
        self.world.hold(held, frame)
    }

    fn release<P: Packet + ?Sized>(
        &self,
        held: &mut HeldFragment<A>,
        count: u8,
        frame: &mut P,
    ) -> Result<(), Unwritable> {
        self.world.release(held, count, frame)
    }

    fn keep_fragment(&self, packet: &Fragmented<A>, first: &FirstFragment) {
        self.world.keep_fragment(packet, first);
    }
}

impl<A: Address, W: Node<A>, N: Around> Node<A> for Recorder<'_, W, N> {
    fn now(&self) -> Ticks {
        self.world.now()
    }

    fn route(&self, destination: &A) -> Route {
        let route = self.world.route(destination);
        let answer = match route {
            Route::Known(next_hop) => format!("out of {}", self.node.device(next_hop.device)),
            Route::Unknown => "somebody else must find it".into(),
            Route::Unreachable => "there is none".into(),
        };
        self.note(format!("Which way leads to {destination}, by the routing table?"), answer);
        route
    }

    fn own_address(&self, device: u32) -> A {
        let address = self.world.own_address(device);
        let answer = if address.is_unspecified() { "none".into() } else { address.to_string() };
        self.note(format!("Which address does {} send from?", self.node.device(device)), answer);
        address
    }

    fn here(&self) -> A {
        self.world.here()
    }

    fn may_answer(&self) -> bool {
        let may = self.world.may_answer();
        self.note("May one more sender be answered?", if may { "yes (assumed)" } else { "no" });
        may
    }

    fn has_socket(&self, tuple: &Tuple<A>) -> bool {
        let has = self.world.has_socket(tuple);
        let answer = if has { "yes" } else { "no (assumed)" };
        self.note(format!("Has a socket of this node a claim to {tuple}?"), answer);
        has
    }
}
