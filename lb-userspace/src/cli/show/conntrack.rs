//! Flows and their states, from the conntrack tables. These may hold millions, so each flow is written as it
//! is read; one that becomes established meanwhile may be listed twice.

use std::io::{self, Write};

use lb_common::address::{Address, Tuple, endpoint};
use lb_common::conntrack::{ConntrackEntry, Ticks};
use lb_ebpf::world::Table;
use serde::Serialize;

use super::snapshot::{Named, Only};
use crate::cli::output::{self, Output};
use crate::maps::conntrack_gc::FlowTables;
use crate::maps::{Contents, MapError};

/// The path of a flow to a backend itself.
const DIRECT: &str = "direct";

/// A flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Flow {
    #[serde(flatten)]
    service: Named,
    /// The Service port's id.
    service_id: u32,
    /// `tcp`, `udp` or `sctp`
    protocol: String,
    /// The client, as `address:port`.
    client: String,
    /// The frontend it sends to; of a direct flow, the backend itself.
    frontend: String,
    /// The source towards the backend: the client, unless SNAT or hairpin changes it.
    source: String,
    /// Its backend.
    backend: String,
    /// That backend's id, within its family; 0 for a direct flow.
    backend_id: u32,
    /// `new`, `replied`, `established`, `closing`, `closed` or `reset`
    state: &'static str,
    /// The table that has it: `established` or `half-open`.
    table: &'static str,
    /// The path of its packets: `stack` (the node's stack, source kept), `snat` (masqueraded), `hairpin`
    /// (back to the pod that sent them) or `direct` (to a backend itself, not through a Service).
    path: &'static str,
    /// Seconds since the last packet of either direction.
    idle_seconds: u32,
}

const TITLES: [&str; 10] = [
    "SERVICE", "PROTOCOL", "CLIENT", "FRONTEND", "BACKEND", "STATE", "IDLE", "SOURCE", "TABLE",
    "PATH",
];

/// Writes flows.
pub struct Writer<'a, W> {
    contents: &'a Contents,
    only: &'a Only,
    output: Output,
    now: Ticks,
    to: &'a mut W,
    written: u64,
}

impl<'a, W: Write> Writer<'a, W> {
    /// Writes flows to `to`, with names from `contents` and idle times as of `now`.
    pub fn new(
        contents: &'a Contents,
        only: &'a Only,
        output: Output,
        now: Ticks,
        to: &'a mut W,
    ) -> Self {
        Self { contents, only, output, now, to, written: 0 }
    }

    /// Writes the flows of a family.
    ///
    /// # Errors
    /// A table could not be read, or the flows not written.
    pub fn family<A: Address>(&mut self, tables: &impl FlowTables<A>) -> anyhow::Result<()> {
        let mut written = Ok(());
        for table in [Table::HalfOpen, Table::Established] {
            tables.for_each(table, &mut |tuple, entry| {
                // The reply entry is of the same flow. Nothing is written once a write has failed.
                if !entry.is_reply() && written.is_ok() {
                    let flow = self.flow(tables, table, &tuple, &entry)?;
                    if self.only.wants(&flow.service) {
                        written = self.flow_line(&flow);
                    }
                }
                Ok(())
            })?;
        }
        Ok(written?)
    }

    /// Writes the end of the list.
    ///
    /// # Errors
    /// It could not be written.
    pub fn end(self) -> io::Result<()> {
        match (self.output, self.written) {
            (Output::Json, 0) => writeln!(self.to, "[]"),
            (Output::Json, _) => writeln!(self.to, "\n]"),
            (Output::Yaml, 0) => writeln!(self.to, "[]"),
            (Output::Table | Output::Wide, 0) => writeln!(self.to, "no conntrack entry"),
            (Output::Yaml | Output::Table | Output::Wide, _) => Ok(()),
        }
    }

    fn flow<A: Address>(
        &self,
        tables: &impl FlowTables<A>,
        table: Table,
        tuple: &Tuple<A>,
        entry: &ConntrackEntry<A>,
    ) -> Result<Flow, MapError> {
        let mut idle = self.now.since(entry.last_seen);
        let reply = tables.find(table, &entry.other_key())?;
        if let Some(reply) = reply.filter(|reply| reply.other_key() == *tuple) {
            idle = idle.min(self.now.since(reply.last_seen));
        }
        let service = self.contents.service_of(A::FAMILY, entry.backend);
        let at = |address: &A, port| endpoint(address.to_ip(), port).to_string();
        Ok(Flow {
            service: Named::of(self.contents, service),
            service_id: service.0,
            protocol: tuple.protocol.to_string(),
            client: at(&tuple.source, tuple.source_port),
            frontend: at(&tuple.destination, tuple.destination_port),
            source: at(&entry.rewritten.source, entry.rewritten.source_port),
            backend: at(&entry.rewritten.destination, entry.rewritten.destination_port),
            backend_id: entry.backend.0,
            state: entry.state.name(),
            table: match table {
                Table::Established => "established",
                Table::HalfOpen => "half-open",
            },
            path: match (entry.is_snat(), entry.is_hairpin()) {
                (true, _) => "snat",
                (false, true) => "hairpin",
                (false, false) if entry.is_direct() => DIRECT,
                (false, false) => "stack",
            },
            idle_seconds: Ticks::to_seconds(idle),
        })
    }

    fn flow_line(&mut self, flow: &Flow) -> io::Result<()> {
        let is_first = self.written == 0;
        self.written += 1;
        match self.output {
            Output::Json => {
                write!(self.to, "{}", if is_first { "[\n  " } else { ",\n  " })?;
                Ok(serde_json::to_writer(&mut *self.to, flow)?)
            }
            Output::Yaml => write!(self.to, "{}", output::yaml(&[flow])?),
            Output::Table | Output::Wide => {
                if is_first {
                    self.columns(TITLES)?;
                }
                self.columns([
                    &if flow.path == DIRECT { "-".into() } else { flow.service.text() },
                    &flow.protocol,
                    &flow.client,
                    &flow.frontend,
                    &flow.backend,
                    flow.state,
                    &format!("{}s", flow.idle_seconds),
                    &flow.source,
                    flow.table,
                    flow.path,
                ])
            }
        }
    }

    /// Columns of fixed widths, as later flows are not known yet; the last three are for wide output.
    fn columns(&mut self, texts: [&str; 10]) -> io::Result<()> {
        const NAME: usize = 24;
        let address = if self.contents.v6.frontends.is_empty() { 21 } else { 34 };
        let widths = [NAME, 8, address, address, address, 11, 7, address, 11, 7];
        let shown = if self.output == Output::Wide { 10 } else { 7 };
        let mut line = String::new();
        for (text, width) in texts.iter().zip(widths).take(shown) {
            line.push_str(&format!("{text:<width$}  "));
        }
        writeln!(self.to, "{}", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lb_common::address::V4;
    use lb_common::backend::BackendId;
    use lb_common::conntrack::State;
    use lb_ebpf::in_memory::World;
    use lb_ebpf::world::Conntrack;

    use super::*;
    use crate::cli::sample;

    /// The tables of a world in memory, read as the kernel's are.
    struct InMemory(BTreeMap<(Table, Tuple<V4>), ConntrackEntry<V4>>);

    impl FlowTables<V4> for InMemory {
        fn for_each(
            &self,
            table: Table,
            see: &mut dyn FnMut(Tuple<V4>, ConntrackEntry<V4>) -> Result<(), MapError>,
        ) -> Result<(), MapError> {
            let of_table = self.0.iter().filter(|((its, _), _)| *its == table);
            of_table.into_iter().try_for_each(|((_, tuple), entry)| see(*tuple, *entry))
        }

        fn find(
            &self,
            t: Table,
            tuple: &Tuple<V4>,
        ) -> Result<Option<ConntrackEntry<V4>>, MapError> {
            Ok(self.0.get(&(t, *tuple)).copied())
        }

        fn remove(
            &self,
            _: Table,
            _: &Tuple<V4>,
            _: &ConntrackEntry<V4>,
        ) -> Result<bool, MapError> {
            panic!("showing removes nothing");
        }
    }

    /// One flow, established, whose backend has sent last, 3 ticks ago.
    fn tables() -> InMemory {
        use lb_common::address::{Port, Protocol};
        let (client, frontend) = (V4([192, 0, 2, 9]), V4([10, 96, 0, 1]));
        let (client_port, port) = (Port::new(40_000), Port::new(80));
        let tuple = Tuple::new(client, client_port, frontend, port, Protocol::TCP);
        let world = World::new(sample::contents());
        let (id, row) = world.tables.v4.backends.first_key_value().unwrap();
        let entry = ConntrackEntry {
            rewritten: Tuple::new(client, client_port, row.address, row.port, Protocol::TCP),
            backend: *id,
            generation: row.generation,
            last_seen: Ticks(90),
            state: State::REPLIED.with(State::ESTABLISHED),
            ..ConntrackEntry::empty()
        };
        let reply = ConntrackEntry { last_seen: Ticks(97), ..entry.reply_entry(&tuple) };
        world.insert(Table::Established, &tuple, &entry).unwrap();
        world.insert(Table::Established, &entry.other_key(), &reply).unwrap();
        let entries = world.v4.entries(Table::Established).into_iter();
        InMemory(entries.map(|(tuple, entry)| ((Table::Established, tuple), entry)).collect())
    }

    /// A flow to the same backend itself.
    fn direct() -> InMemory {
        let InMemory(flows) = tables();
        let entry = flows.values().find(|entry| !entry.is_reply()).expect("the flow of a client");
        let flags = ConntrackEntry::<V4>::DIRECT;
        let entry = ConntrackEntry { flags, backend: BackendId::NONE, ..*entry };
        InMemory(BTreeMap::from([((Table::HalfOpen, entry.rewritten), entry)]))
    }

    #[test]
    fn a_flow_to_a_backend_itself_has_no_service_and_a_path_of_its_own() {
        let line = written(&direct(), Only(None), Output::Wide);
        let line = line.lines().nth(1).expect("a line below the titles");
        assert!(line.starts_with("- ") && line.ends_with("direct"), "{line}");
        assert!(written(&direct(), Only(None), Output::Json).contains("\"path\":\"direct\""));
    }

    fn written(tables: &InMemory, only: Only, output: Output) -> String {
        let (contents, mut bytes) = (sample::contents(), Vec::new());
        let mut writer = Writer::new(&contents, &only, output, Ticks(100), &mut bytes);
        writer.family(tables).unwrap();
        writer.end().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_flow_is_written_once_with_its_idle_time_in_each_form() {
        let text = [Output::Table, Output::Wide, Output::Json, Output::Yaml]
            .map(|output| written(&tables(), Only(None), output))
            .join("\n");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn json_of_any_number_of_flows_is_an_array() {
        let of = |only| written(&tables(), only, Output::Json);
        for (only, flows) in [(Only(None), 1), (Only(Some("idle".into())), 0)] {
            let parsed: Vec<serde_json::Value> = serde_json::from_str(&of(only)).unwrap();
            assert_eq!(parsed.len(), flows);
        }
    }
}
