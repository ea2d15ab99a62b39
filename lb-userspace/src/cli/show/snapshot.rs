//! The contents of the maps, the counters and the agent's status, read once.

use std::collections::BTreeMap;

use lb_common::address::{Address, Family};
use lb_common::backend::{BackendId, Traffic};
use lb_common::maps::{self, Map};
use lb_common::service::ServiceId;
use lb_ebpf::world::Table;
use serde::Serialize;

use crate::agent::runtime_dir;
use crate::agent::status::Status;
use crate::maps::conntrack_gc::{FlowTables, KernelFlows};
use crate::maps::kernel::KernelStore;
use crate::maps::{Contents, MapStore, affinity};
use crate::pins::Pins;

/// What `weir show` reads.
#[derive(Clone, Default, Debug)]
pub struct Snapshot {
    /// What the maps hold.
    pub contents: Contents,
    /// The traffic of each backend.
    pub traffic: BTreeMap<Backend, Traffic>,
    /// What the conntrack tables hold.
    pub flows: Flows,
    /// The status that the agent published, if one runs or has run on this node.
    pub status: Option<Status>,
    /// Whether an agent runs now.
    pub is_running: bool,
}

/// Ids count per family.
pub type Backend = (Family, BackendId);

/// The tables that the walk writes, counted.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Flows {
    /// Flows of each backend that are not over.
    pub live: BTreeMap<Backend, u64>,
    /// Entries of each table by its map's name; in conntrack, two per flow.
    pub entries: BTreeMap<&'static str, u64>,
}

impl Snapshot {
    /// Reads everything.
    ///
    /// # Errors
    ///
    /// Nothing is pinned, or a map cannot be read.
    pub fn read(pins: &Pins) -> anyhow::Result<Self> {
        let store = KernelStore::open(pins)?;
        let contents = store.read()?;
        let mut traffic = BTreeMap::new();
        for id in contents.v4.backends.keys() {
            traffic.insert((Family::V4, *id), store.traffic_v4(*id)?);
        }
        for id in contents.v6.backends.keys() {
            traffic.insert((Family::V6, *id), store.traffic_v6(*id)?);
        }
        Ok(Self {
            contents,
            traffic,
            flows: Flows::read(pins)?,
            status: runtime_dir::status(pins.directory())?,
            is_running: runtime_dir::is_running(pins.directory())?,
        })
    }

    /// The names of a Service port.
    pub fn named(&self, service: ServiceId) -> Named {
        Named::of(&self.contents, service)
    }

    /// A note where the agent's status is missing or old.
    pub fn absence(&self) -> Vec<String> {
        let text = match (&self.status, self.is_running) {
            (_, true) => return Vec::new(),
            (Some(_), false) => "no agent is running: its status may be old; start `weir run`",
            (None, false) => {
                "no agent is running: changes of the cluster are not applied; start `weir run`"
            }
        };
        vec![text.into()]
    }
}

impl Flows {
    fn read(pins: &Pins) -> anyhow::Result<Self> {
        let tables = KernelFlows::open(pins)?;
        let mut flows = Self { entries: affinity::count(pins)?, ..Self::default() };
        flows.count(tables.v4(), [&maps::HALF_OPEN.v4, &maps::CONNTRACK.v4])?;
        flows.count(tables.v6(), [&maps::HALF_OPEN.v6, &maps::CONNTRACK.v6])?;
        Ok(flows)
    }

    fn count<A: Address>(
        &mut self,
        tables: &impl FlowTables<A>,
        [half_open, established]: [&Map; 2],
    ) -> anyhow::Result<()> {
        for (table, map) in [(Table::HalfOpen, half_open), (Table::Established, established)] {
            let entries = self.entries.entry(map.name).or_default();
            tables.for_each(table, &mut |_, entry| {
                *entries += 1;
                if !entry.is_reply() && !entry.state.is_over() {
                    *self.live.entry((A::FAMILY, entry.backend)).or_default() += 1;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// A Service port by its names, which are empty if `SERVICES` has no row for it.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Named {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The port's name, empty if it has none.
    pub port_name: String,
}

impl Named {
    /// The names of `service`.
    pub fn of(contents: &Contents, service: ServiceId) -> Self {
        let label = contents.services.get(&service);
        let (namespace, name, port) = label.map(|label| label.names()).unwrap_or_default();
        Self { namespace: namespace.into(), name: name.into(), port_name: port.into() }
    }

    /// `namespace/name`, and `:port` where the port has a name.
    pub fn text(&self) -> String {
        let Self { namespace, name, port_name } = self;
        match (name.is_empty(), port_name.is_empty()) {
            (true, _) => "?".into(),
            (false, true) => format!("{namespace}/{name}"),
            (false, false) => format!("{namespace}/{name}:{port_name}"),
        }
    }
}

/// The Services to show: `NAME` or `NAMESPACE/NAME`; all if none is given.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Only(pub Option<String>);

impl Only {
    /// Whether this Service is one of them.
    pub fn wants(&self, named: &Named) -> bool {
        self.0.as_deref().is_none_or(|wanted| match wanted.split_once('/') {
            Some((namespace, name)) => namespace == named.namespace && name == named.name,
            None => wanted == named.name,
        })
    }
}

#[cfg(test)]
impl Snapshot {
    /// The small node of the tests, with some traffic.
    pub fn sample() -> Self {
        let traffic = Traffic {
            connections: 3,
            packets: 30,
            bytes: 3000,
            reply_packets: 20,
            reply_bytes: 90_000,
        };
        let first = (Family::V4, BackendId(1));
        let entries = [("CONNTRACK_V4", 4), ("HALF_OPEN_V4", 2)];
        Self {
            contents: crate::cli::sample::contents(),
            traffic: BTreeMap::from([(first, traffic)]),
            flows: Flows { live: BTreeMap::from([(first, 2)]), entries: entries.into() },
            status: Some(crate::cli::sample::status()),
            is_running: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_selected_with_and_without_their_namespace() {
        let named = Named { namespace: "default".into(), name: "web".into(), ..Named::default() };
        let wants = |text: &str| Only(Some(text.into())).wants(&named);
        assert!(Only(None).wants(&named) && wants("web") && wants("default/web"));
        assert!(!wants("other/web") && !wants("default/we") && !wants("default"));
    }

    #[test]
    fn a_missing_agent_is_noted() {
        let running = Snapshot::sample();
        assert!(running.absence().is_empty());
        let stopped = Snapshot { is_running: false, ..running };
        assert!(stopped.absence()[0].contains("may be old"));
        let never = Snapshot { status: None, ..stopped };
        assert!(never.absence()[0].contains("start `weir run`"));
    }
}
