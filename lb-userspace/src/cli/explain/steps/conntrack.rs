//! Steps that read and write flows and clients: conntrack and session affinity.

use lb_common::address::{Address, Tuple};
use lb_common::affinity::{Affinity, Client};
use lb_common::conntrack::{ConntrackEntry, State};
use lb_ebpf::world::{InsertError, Table};

use super::recorder::{Step, Steps};
use crate::cli::explain::node::NodeView;

impl<N: NodeView> Steps<'_, N> {
    pub(super) fn lookup<A: Address>(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        entry: Option<&ConntrackEntry<A>>,
    ) -> Step {
        let step = format!("{} lookup{}", name(table), self.other(tuple));
        let Some(entry) = entry else {
            let detail = format!("{tuple} has no entry in the {} table", name(table));
            return Step::new(step, "miss", detail);
        };
        let (service, state) = (self.service_of(entry), entry.state.name());
        let direction = direction(entry);
        let rewritten = entry.rewritten;
        let detail = format!(
            "{tuple} is the {direction} tuple of a flow of {service}, {state}: rewritten to {rewritten}"
        );
        Step::new(step, format!("hit, {direction}, {state}, {service}"), detail)
    }

    pub(super) fn has_mapping<A: Address>(
        &self,
        table: Table,
        [tuple, rewritten]: [&Tuple<A>; 2],
        found: bool,
    ) -> Step {
        let result = if found { "yes" } else { "no" };
        let step = format!("{} mapping{}", name(table), self.other(tuple));
        let detail = format!("does an entry of {tuple} rewrite to {rewritten}? {result}");
        Step::new(step, result, detail)
    }

    pub(super) fn insert<A: Address>(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        entry: &ConntrackEntry<A>,
        result: Result<(), InsertError>,
    ) -> Step {
        let direction = direction(entry);
        let step = format!("{} insert {direction}{}", name(table), self.other(tuple));
        let result = match result {
            Ok(()) => format!("rewrites to {}{}", entry.rewritten, reason(entry)),
            Err(InsertError::Exists) => "refused: the key exists".into(),
            Err(InsertError::Full) => "refused: the table is full".into(),
        };
        let detail = format!("the {direction} entry of {tuple} {result}");
        Step::new(step, result, detail)
    }

    pub(super) fn set_state<A: Address>(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        state: State,
    ) -> Step {
        let detail = format!("the state of {tuple} is now {}", state.name());
        let step = format!("{} state{}", name(table), self.other(tuple));
        Step::new(step, state.name(), detail)
    }

    pub(super) fn set_expected<A: Address>(
        &self,
        table: Table,
        tuple: &Tuple<A>,
        expected: u32,
    ) -> Step {
        let detail = format!("packets of {tuple} are expected to carry {expected}");
        let step = format!("{} expected{}", name(table), self.other(tuple));
        Step::new(step, expected.to_string(), detail)
    }

    pub(super) fn remove<A: Address>(&self, table: Table, tuple: &Tuple<A>) -> Step {
        let step = format!("{} remove{}", name(table), self.other(tuple));
        Step::new(step, "done", format!("the entry of {tuple} is removed"))
    }

    pub(super) fn affinity<A: Address>(
        &self,
        client: &Client<A>,
        affinity: Option<&Affinity>,
    ) -> Step {
        let result = affinity.map_or_else(|| "none".into(), |a| format!("backend {}", a.backend));
        let (address, service) = (client.address, self.service(client.service));
        let detail = format!("the last backend of {address} for {service}: {result}");
        Step::new(format!("affinity {address}"), result, detail)
    }
}

pub(super) fn set_affinity<A: Address>(
    client: &Client<A>,
    affinity: &Affinity,
    is_set: bool,
) -> Step {
    let result = if is_set { "done" } else { "refused: the key exists" };
    let (backend, address) = (affinity.backend, client.address);
    let detail = format!("set the affinity of {address} to backend {backend}: {result}");
    Step::new(format!("affinity set {address}"), result, detail)
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

/// Which rewrite of the source an entry has, and why.
fn reason<A: Address>(entry: &ConntrackEntry<A>) -> &'static str {
    match (entry.is_reply(), entry.is_snat(), entry.is_hairpin()) {
        (true, ..) => "",
        (false, ..) if entry.is_direct() => ", direct: to a backend itself",
        (false, ..) if entry.is_from_host() => ", from this node itself",
        (false, true, _) => ", SNAT: the backend is remote, and its replies must return here",
        (false, false, true) => ", hairpin: the pod is its own backend",
        (false, false, false) => "",
    }
}
