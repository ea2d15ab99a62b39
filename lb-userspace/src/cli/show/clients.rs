//! Session affinity: clients and their backends.

use comfy_table::Table;
use lb_common::address::endpoint;
use lb_common::affinity::{Affinity, Client};
use lb_common::conntrack::Ticks;
use serde::Serialize;

use super::snapshot::{Named, Only};
use crate::cli::output::{Report, table};
use crate::maps::Contents;
use crate::maps::contents::InContents;

/// Clients of both families.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
#[serde(transparent)]
pub struct Clients(Vec<AffinityEntry>);

/// A client of a Service port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AffinityEntry {
    client: String,
    #[serde(flatten)]
    service: Named,
    /// `address:port`; `None` if it is removed.
    backend: Option<String>,
    /// Seconds since it last began a flow.
    idle_seconds: u32,
}

impl Clients {
    /// Adds those of a family that are asked for. It is `now`.
    pub fn add<A: InContents>(
        &mut self,
        contents: &Contents,
        only: &Only,
        now: Ticks,
        entries: Vec<(Client<A>, Affinity)>,
    ) {
        let mut entries = entries;
        entries.sort_unstable_by_key(|(client, _)| (client.service, client.address));
        let backends = &A::rows(contents).backends;
        let entries = entries.iter().map(|(client, affinity)| {
            let row = backends.get(&affinity.backend);
            let row = row.filter(|row| row.generation == affinity.generation && row.is_serving());
            AffinityEntry {
                client: client.address.to_string(),
                service: Named::of(contents, client.service),
                backend: row.map(|row| endpoint(row.address.to_ip(), row.port).to_string()),
                idle_seconds: Ticks::to_seconds(now.since(affinity.last_used)),
            }
        });
        self.0.extend(entries.filter(|entry| only.wants(&entry.service)));
    }
}

impl Report for Clients {
    fn table(&self, _: bool) -> Table {
        let row = |entry: &AffinityEntry| {
            vec![
                entry.client.clone(),
                entry.service.text(),
                entry.backend.clone().unwrap_or_else(|| "removed".into()),
                format!("{}s", entry.idle_seconds),
            ]
        };
        table(&["CLIENT", "SERVICE", "BACKEND", "IDLE"], self.0.iter().map(row))
    }
}

#[cfg(test)]
mod tests {
    use lb_common::address::V4;
    use lb_common::backend::BackendId;

    use super::*;
    use crate::cli::output::{json, trimmed};
    use crate::cli::sample;

    #[test]
    fn clients_are_listed_with_backend_and_idle_time() {
        let contents = sample::contents();
        let (id, row) = contents.v4.backends.iter().next().unwrap();
        let had = |last, backend, generation| {
            let client = Client { address: V4([10, 244, 1, last]), service: row.service };
            (client, Affinity { backend, generation, last_used: Ticks(5) })
        };
        let entries = vec![had(9, BackendId(77), 1), had(7, *id, row.generation)];
        let mut clients = Clients::default();
        clients.add(&contents, &Only(None), Ticks(105), entries.clone());
        insta::assert_snapshot!(format!(
            "{}\n{}",
            trimmed(&clients.table(false)),
            json(&clients.0[0]).unwrap()
        ));
        let mut none = Clients::default();
        none.add(&contents, &Only(Some("other".into())), Ticks(105), entries);
        assert_eq!(none, Clients::default());
    }
}
