//! Service ports: their frontends, their backends, and warnings.

use comfy_table::Table;
use lb_common::address::{Address, endpoint};
use lb_common::service::ServiceId;
use serde::Serialize;

use super::backends::{self, Backend};
use super::snapshot::{Named, Only, Snapshot};
use crate::agent::status::WarningText;
use crate::cli::output::{Report, table};
use crate::maps::FamilyContents;

/// Service ports, ordered by their names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct Services {
    services: Vec<Service>,
    #[serde(skip)]
    notes: Vec<String>,
}

/// A Service port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Service {
    #[serde(flatten)]
    named: Named,
    /// `tcp`, `udp` or `sctp`
    protocol: String,
    /// Its id in the maps of this node.
    id: u32,
    /// Its frontends, as `address:port`.
    frontends: Vec<String>,
    /// Its backends.
    backends: Vec<Backend>,
    /// Warnings about the Service, as the agent last published them.
    warnings: Vec<String>,
}

impl Services {
    /// Those of `snapshot` that are asked for.
    pub fn of(snapshot: &Snapshot, only: &Only) -> Self {
        let backends = backends::all(snapshot);
        let mut services: Vec<Service> = snapshot
            .contents
            .services
            .iter()
            .map(|(id, label)| Service {
                named: snapshot.named(*id),
                protocol: label.protocol.to_string(),
                id: id.0,
                frontends: frontends(snapshot, *id),
                backends: backends
                    .iter()
                    .filter(|backend| backend.serves(*id))
                    .map(|backend| backend.backend.clone())
                    .collect(),
                warnings: warnings(snapshot, &snapshot.named(*id)),
            })
            .filter(|service| only.wants(&service.named))
            .collect();
        services.sort_by_key(|service| (service.named.text(), service.protocol.clone()));
        Self { notes: notes(snapshot), services }
    }
}

fn frontends(snapshot: &Snapshot, service: ServiceId) -> Vec<String> {
    let (v4, v6) = (&snapshot.contents.v4, &snapshot.contents.v6);
    of_family(v4, service).chain(of_family(v6, service)).collect()
}

fn of_family<A: Address>(
    rows: &FamilyContents<A>,
    service: ServiceId,
) -> impl Iterator<Item = String> {
    let of_service = rows.frontends.iter().filter(move |(_, row)| row.service == service);
    of_service.map(|(frontend, _)| endpoint(frontend.address.to_ip(), frontend.port).to_string())
}

fn warnings(snapshot: &Snapshot, named: &Named) -> Vec<String> {
    let about = format!("Service {}/{}", named.namespace, named.name);
    let warnings = snapshot.status.iter().flat_map(|status| &status.warnings);
    warnings.filter(|warning| warning.about == about).map(|warning| warning.text.clone()).collect()
}

/// Every warning: also those on objects that are not balanced, which have no row.
fn notes(snapshot: &Snapshot) -> Vec<String> {
    let warnings = snapshot.status.iter().flat_map(|status| &status.warnings);
    let text = |WarningText { about, text }: &WarningText| format!("{about}: {text}");
    warnings.map(text).chain(snapshot.absence()).collect()
}

impl Report for Services {
    fn table(&self, wide: bool) -> Table {
        let mut header =
            vec!["SERVICE", "PROTOCOL", "FRONTENDS", "BACKENDS", "LIVE", "CONNECTIONS"];
        if wide {
            header.extend(["BYTES", "REPLY BYTES", "ID"]);
        }
        let row = |service: &Service| {
            let sum = |of: fn(&Backend) -> u64| service.backends.iter().map(of).sum::<u64>();
            let address = |backend: &Backend| format!("{} {}", backend.address, backend.location());
            let backends: Vec<String> = service.backends.iter().map(address).collect();
            let mut row = vec![
                service.named.text(),
                service.protocol.clone(),
                service.frontends.join("\n"),
                if backends.is_empty() { "none".into() } else { backends.join("\n") },
                sum(|backend| backend.live).to_string(),
                sum(|backend| backend.connections).to_string(),
            ];
            if wide {
                row.extend([
                    sum(|backend| backend.bytes).to_string(),
                    sum(|backend| backend.reply_bytes).to_string(),
                    service.id.to_string(),
                ]);
            }
            row
        };
        table(&header, self.services.iter().map(row))
    }

    fn notes(&self, _: bool) -> Vec<String> {
        self.notes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{json, trimmed};

    #[test]
    fn services_are_listed_with_frontends_and_backends() {
        let services = Services::of(&Snapshot::sample(), &Only(None));
        let notes = services.notes(false).join("\n");
        insta::assert_snapshot!(format!("{}{notes}", trimmed(&services.table(false))));
    }

    #[test]
    fn the_fields_of_a_service_are_these() {
        insta::assert_snapshot!(json(&Services::of(&Snapshot::sample(), &Only(None))).unwrap());
    }
}
