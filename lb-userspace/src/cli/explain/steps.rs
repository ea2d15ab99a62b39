//! The steps of a walk in words: a short form, and the sentence that says the same at length.

use std::cell::RefCell;

use lb_common::address::{Address, Family, Tuple, endpoint};
use lb_common::backend::Backend;
use lb_common::conntrack::ConntrackEntry;
use lb_common::filter::Position;
use lb_common::service::{
    EmptyPoolReason, Frontend, FrontendRow, IpPolicy, ServiceId, SourceClass,
};
use lb_common::settings::Settings;
use lb_common::source_range::SourceRange;
use lb_ebpf::trace::{Step as Traced, Tracer};
use lb_ebpf::world::{FibResult, InsertError, Table};
use serde::Serialize;

use super::node::NodeView;
use crate::maps::Contents;

/// One step of a walk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Step {
    /// What was looked up or written, such as `conntrack lookup`.
    pub step: String,
    /// What came of it, such as `miss`.
    pub result: String,
    /// The same as a sentence.
    pub detail: String,
}

/// Writes down the steps of one walk.
pub struct Steps<'a, N> {
    node: &'a N,
    contents: &'a Contents,
    class: SourceClass,
    /// Whether it is a system call that walks, and not a packet.
    is_call: bool,
    /// The packet's own tuple, in words: steps about it do not repeat it.
    tuple: String,
    /// The filter's positions of the packet's ends, in words.
    positions: Vec<(Position, String)>,
    steps: RefCell<Vec<Step>>,
}

impl<'a, N: NodeView> Steps<'a, N> {
    /// The steps of a walk of a packet of `class` with this tuple; `positions` are its ends'.
    pub fn new(
        node: &'a N,
        contents: &'a Contents,
        class: SourceClass,
        tuple: String,
        positions: Vec<(Position, String)>,
    ) -> Self {
        let (is_call, steps) = (false, RefCell::default());
        Self { node, contents, class, is_call, tuple, positions, steps }
    }

    /// The steps of a system call instead.
    pub fn of_a_call(self) -> Self {
        Self { is_call: true, ..self }
    }

    /// What was written down.
    pub fn into_steps(self) -> Vec<Step> {
        self.steps.into_inner()
    }

    fn service(&self, service: ServiceId) -> String {
        let label = self.contents.services.get(&service);
        label.map_or_else(|| format!("Service port {service}"), |label| format!("{label:?}"))
    }

    /// ` 10.0.0.9:40000 > 10.96.0.1:80/tcp`, or nothing for the packet's own tuple.
    fn other<A: Address>(&self, tuple: &Tuple<A>) -> String {
        let text = tuple.to_string();
        if text == self.tuple { String::new() } else { format!(" {text}") }
    }

    fn frontend<A: Address>(
        &self,
        frontend: &Frontend<A>,
        row: Option<&FrontendRow>,
    ) -> [String; 3] {
        let step = format!("frontend {frontend}");
        let Some(row) = row else {
            return [step, "none".into(), format!("{frontend} is no frontend")];
        };
        let (service, pool) = (self.service(row.service), row.pool(self.class));
        let gets = match pool.empty_reason() {
            None => format!("a pool of {} slots from {}", pool.length, pool.base),
            Some(EmptyPoolReason::NoEndpoint) => "no endpoint".into(),
            Some(EmptyPoolReason::NoLocalEndpoint) => "no local endpoint".into(),
        };
        let detail = format!(
            "{frontend} is a frontend of {service}; a sender of class {} gets {gets}",
            self.class
        );
        [step, format!("{service}, {gets}"), detail]
    }

    fn source<A: Address>(&self, source: &SourceRange<A>, allowed: bool) -> [String; 3] {
        let is_in = if allowed { "is" } else { "is not" };
        let address = source.address;
        if source.service == SourceRange::<A>::CLUSTER {
            let detail = format!("{address} {is_in} within a service CIDR of the cluster");
            return [format!("service CIDRs {address}"), inside(allowed), detail];
        }
        let service = self.service(source.service);
        let detail = format!("{address} {is_in} within the source ranges of {service}");
        let result = if allowed { "allowed" } else { "not allowed" };
        [format!("source ranges {address}"), result.into(), detail]
    }

    fn settings(&self, family: Family, settings: &Settings) -> [String; 3] {
        if self.is_call {
            let own = match family {
                Family::V4 => settings.own_v4.to_ip(),
                Family::V6 => settings.own_v6.to_ip(),
            };
            let own = if own.is_unspecified() { "none".into() } else { own.to_string() };
            let detail = format!("this node's address, the source of its processes, is {own}");
            return ["node address".into(), own, detail];
        }
        let first = settings.first_snat_port;
        let ports = match settings.snat_ports.checked_sub(1) {
            Some(more) => format!("{first}-{}", u32::from(first) + u32::from(more)),
            None => "none".into(),
        };
        let detail = format!("the source ports for SNAT are {ports}");
        ["SNAT ports".into(), ports, detail]
    }

    fn lookup<A: Address>(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        entry: Option<&ConntrackEntry<A>>,
    ) -> [String; 3] {
        let step = format!("{} lookup{}", name(table), self.other(tuple));
        let Some(entry) = entry else {
            let detail = format!("{tuple} has no entry in the {} table", name(table));
            return [step, "miss".into(), detail];
        };
        let (service, state) = (self.service(entry.service), entry.state.name());
        let direction = direction(entry);
        let rewritten = entry.rewritten;
        let detail = format!(
            "{tuple} is the {direction} tuple of a flow of {service}, {state}: rewritten to {rewritten}"
        );
        [step, format!("hit, {direction}, {state}, {service}"), detail]
    }

    fn insert<A: Address>(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        entry: &ConntrackEntry<A>,
        result: Result<(), InsertError>,
    ) -> [String; 3] {
        let direction = direction(entry);
        let step = format!("{} insert {direction}{}", name(table), self.other(tuple));
        let result = match result {
            Ok(()) => format!("rewrites to {}{}", entry.rewritten, reason(entry)),
            Err(InsertError::Exists) => "refused: the key exists".into(),
            Err(InsertError::Full) => "refused: the table is full".into(),
        };
        let detail = format!("the {direction} entry of {tuple} {result}");
        [step, result, detail]
    }

    fn words<A: Address>(&self, step: Traced<'_, A>) -> [String; 3] {
        match step {
            Traced::Frontend(frontend, row) => self.frontend(frontend, row),
            Traced::IpPolicy(address, policy) => {
                let result = ip_policy(policy);
                let detail = format!("the policy of {address}: {result}");
                [format!("address policy {address}"), result.into(), detail]
            }
            Traced::InServiceRanges(address, is_in) => {
                let detail = format!(
                    "{address} is {} the range of all cluster IPs and service CIDRs",
                    inside(is_in)
                );
                [format!("service ranges {address}"), inside(is_in), detail]
            }
            Traced::SourceAllowed(source, allowed) => self.source(source, allowed),
            Traced::Slot(index, id) => {
                let result = id.map_or_else(|| "empty".into(), |id| format!("backend {id}"));
                let by = if self.is_call { "drawn for this call" } else { "by the tuple's hash" };
                [format!("slot {index}"), result.clone(), format!("slot {index}, {by}: {result}")]
            }
            Traced::Backend(id, row) => {
                let result = row.map_or_else(|| "none: its row is free".into(), backend);
                [format!("backend {id}"), result.clone(), format!("backend {id} is {result}")]
            }
            Traced::Filter(position, matches) => {
                let asked = self.positions.iter().find(|(known, _)| *known == position);
                let end = asked.map_or("another end", |(_, end)| end.as_str());
                let (result, may) = if matches { ("match", "may") } else { ("no match", "cannot") };
                let detail = format!("{end} {may} be a frontend or a backend, by the filter");
                [format!("filter {end}"), result.into(), detail]
            }
            Traced::Settings(settings) => self.settings(A::FAMILY, settings),
            Traced::Lookup(table, tuple, entry) => self.lookup(table, tuple, entry),
            Traced::HasMapping(table, tuple, rewritten, found) => {
                let result = if found { "yes" } else { "no" };
                let step = format!("{} mapping{}", name(table), self.other(tuple));
                let detail = format!("does an entry of {tuple} rewrite to {rewritten}? {result}");
                [step, result.into(), detail]
            }
            Traced::Insert(table, tuple, entry, result) => self.insert(table, tuple, entry, result),
            Traced::SetState(table, tuple, state) => {
                let detail = format!("the state of {tuple} is now {}", state.name());
                let step = format!("{} state{}", name(table), self.other(tuple));
                [step, state.name().into(), detail]
            }
            Traced::Remove(table, tuple) => {
                let step = format!("{} remove{}", name(table), self.other(tuple));
                [step, "done".into(), format!("the entry of {tuple} is removed")]
            }
            Traced::Affinity(client, affinity) => {
                let result =
                    affinity.map_or_else(|| "none".into(), |a| format!("backend {}", a.backend));
                let service = self.service(client.service);
                let detail = format!("what {} got last from {service}: {result}", client.address);
                [format!("affinity {}", client.address), result, detail]
            }
            Traced::SetAffinity(client, affinity, is_set) => {
                let result = if is_set { "done" } else { "refused: there is one already" };
                let detail = format!(
                    "remember backend {} for {}: {result}",
                    affinity.backend, client.address
                );
                [format!("affinity set {}", client.address), result.into(), detail]
            }
            Traced::Fragment(packet, found) => {
                let result = if found { "known" } else { "not known" };
                let detail =
                    format!("fragments of {} to {}: {result}", packet.source, packet.destination);
                ["fragment lookup".into(), result.into(), detail]
            }
            Traced::Fib(destination, result) => {
                let result = match result {
                    FibResult::Found(next_hop) => {
                        format!("by {}", self.node.device(next_hop.device))
                    }
                    FibResult::LeftToTc => "left to TC".into(),
                    FibResult::Unreachable => "no route".into(),
                };
                let detail = format!("the route to {destination}: {result}");
                [format!("FIB lookup {destination}"), result, detail]
            }
            Traced::DeviceAddress(device, address) => {
                let name = self.node.device(device);
                let result =
                    if address.is_unspecified() { "none".into() } else { address.to_string() };
                let detail = format!("the source address of {name} is {result}");
                [format!("source address of {name}"), result, detail]
            }
            Traced::AllowIcmp(allowed) => {
                let result = if allowed { "allowed (assumed)" } else { "reached" };
                ["ICMP rate limit".into(), result.into(), format!("the ICMP rate limit: {result}")]
            }
            Traced::SocketExists(tuple, exists) => {
                let result = if exists { "yes" } else { "none (assumed)" };
                let detail = format!("is {tuple} used by a local socket? {result}");
                [format!("local socket {tuple}"), result.into(), detail]
            }
        }
    }
}

impl<A: Address, N: NodeView> Tracer<A> for Steps<'_, N> {
    fn step(&self, step: Traced<'_, A>) {
        let [step, result, detail] = self.words(step);
        self.steps.borrow_mut().push(Step { step, result, detail });
    }
}

const fn name(table: Table) -> &'static str {
    match table {
        Table::Established => "conntrack",
        Table::HalfOpen => "half-open",
    }
}

fn direction<A: Address>(entry: &ConntrackEntry<A>) -> &'static str {
    if entry.is_reply() { "reply" } else { "original" }
}

fn inside(is_in: bool) -> String {
    if is_in { "inside" } else { "outside" }.into()
}

fn ip_policy(policy: Option<IpPolicy>) -> &'static str {
    match policy {
        None => "none",
        Some(policy) if policy.rejects() => "cluster IP: other ports are rejected",
        Some(policy) if policy.replies_to_echo() => "Service address",
        Some(_) => "address of this node",
    }
}

fn backend<A: Address>(row: &Backend<A>) -> String {
    let at = endpoint(row.address.to_ip(), row.port);
    let reach = if row.is_local() { "local" } else { "remote" };
    let serving = if row.is_serving() { "serving" } else { "no longer serving" };
    format!("{at}/{}, {reach}, {serving}", row.protocol)
}

/// Why a packet leaves as it does.
fn reason<A: Address>(entry: &ConntrackEntry<A>) -> &'static str {
    match (entry.is_reply(), entry.is_snat(), entry.is_hairpin()) {
        (true, ..) => "",
        (false, true, _) => ", SNAT: the backend is remote, and its replies must return here",
        (false, false, true) => ", hairpin: the pod is its own backend",
        (false, false, false) => "",
    }
}
