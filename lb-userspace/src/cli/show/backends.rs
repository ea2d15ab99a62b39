//! Backends and their traffic.

use comfy_table::Table;
use lb_common::address::{Address, Family, endpoint};
use lb_common::backend::BackendId;
use lb_common::service::ServiceId;
use serde::Serialize;

use super::snapshot::{Named, Only, Snapshot};
use crate::cli::output::{Report, table};
use crate::maps::FamilyContents;

/// Backends of both families, ordered by family and id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct Backends(Vec<Listed>);

/// A backend and the Service port it serves.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Listed {
    /// Ids count per family.
    pub id: u32,
    /// `IPv4` or `IPv6`
    pub family: String,
    #[serde(flatten)]
    service: Named,
    /// The Service port's id.
    pub service_id: u32,
    /// Distinguishes it from earlier backends with this id.
    pub generation: u32,
    /// The backend.
    #[serde(flatten)]
    pub backend: Backend,
}

/// A backend, and its traffic since it was added.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Backend {
    /// `address:port`
    pub address: String,
    /// `tcp`, `udp` or `sctp`
    pub protocol: String,
    /// Whether it is on this node.
    pub local: bool,
    /// Whether it gets new flows; if not, it is kept for those it has.
    pub serving: bool,
    /// Flows begun.
    pub connections: u64,
    /// Packets towards it.
    pub packets: u64,
    /// Their length with link headers.
    pub bytes: u64,
    /// Packets from it.
    pub reply_packets: u64,
    /// Their length with link headers.
    pub reply_bytes: u64,
    /// Flows in conntrack that are not over.
    pub live: u64,
}

impl Backends {
    /// Those of `snapshot` that are asked for.
    pub fn of(snapshot: &Snapshot, only: &Only) -> Self {
        let mut backends = all(snapshot);
        backends.retain(|backend| only.wants(&backend.service));
        Self(backends)
    }
}

/// Every backend of `snapshot`.
pub fn all(snapshot: &Snapshot) -> Vec<Listed> {
    let contents = &snapshot.contents;
    family(snapshot, &contents.v4).chain(family(snapshot, &contents.v6)).collect()
}

fn family<A: Address>(
    snapshot: &Snapshot,
    rows: &FamilyContents<A>,
) -> impl Iterator<Item = Listed> {
    rows.backends.iter().map(|(id, row)| Listed {
        id: id.0,
        family: A::FAMILY.to_string(),
        service: snapshot.named(row.service),
        service_id: row.service.0,
        generation: row.generation,
        backend: Backend {
            address: endpoint(row.address.to_ip(), row.port).to_string(),
            protocol: row.protocol.to_string(),
            local: row.is_local(),
            serving: row.is_serving(),
            ..Backend::counted(snapshot, (A::FAMILY, *id))
        },
    })
}

impl Backend {
    fn counted(snapshot: &Snapshot, backend: (Family, BackendId)) -> Self {
        let traffic = snapshot.traffic.get(&backend).copied().unwrap_or_default();
        Self {
            address: String::new(),
            protocol: String::new(),
            local: false,
            serving: false,
            connections: traffic.connections,
            packets: traffic.packets,
            bytes: traffic.bytes,
            reply_packets: traffic.reply_packets,
            reply_bytes: traffic.reply_bytes,
            live: snapshot.flows.live.get(&backend).copied().unwrap_or_default(),
        }
    }

    /// `local` or `remote`, and whether it is draining.
    pub fn location(&self) -> String {
        let location = if self.local { "local" } else { "remote" };
        if self.serving { location.into() } else { format!("{location}, draining") }
    }
}

impl Listed {
    /// Whether it serves this Service port.
    pub fn serves(&self, service: ServiceId) -> bool {
        self.service_id == service.0
    }
}

impl Report for Backends {
    fn table(&self, wide: bool) -> Table {
        let mut header = vec![
            "SERVICE",
            "ADDRESS",
            "PROTOCOL",
            "LOCATION",
            "LIVE",
            "CONNECTIONS",
            "BYTES",
            "REPLY BYTES",
        ];
        if wide {
            header.extend(["PACKETS", "REPLY PACKETS", "ID", "GENERATION"]);
        }
        let row = |listed: &Listed| {
            let backend = &listed.backend;
            let mut row = vec![
                listed.service.text(),
                backend.address.clone(),
                backend.protocol.clone(),
                backend.location(),
                backend.live.to_string(),
                backend.connections.to_string(),
                backend.bytes.to_string(),
                backend.reply_bytes.to_string(),
            ];
            if wide {
                row.extend([
                    backend.packets.to_string(),
                    backend.reply_packets.to_string(),
                    listed.id.to_string(),
                    listed.generation.to_string(),
                ]);
            }
            row
        };
        table(&header, self.0.iter().map(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{json, trimmed};

    #[test]
    fn backends_are_listed_with_their_service_and_what_was_counted() {
        let backends = Backends::of(&Snapshot::sample(), &Only(None));
        insta::assert_snapshot!(trimmed(&backends.table(true)));
    }

    #[test]
    fn the_fields_of_a_backend_are_these() {
        let backends = Backends::of(&Snapshot::sample(), &Only(None));
        insta::assert_snapshot!(json(&backends.0[0]).unwrap());
    }

    #[test]
    fn a_service_s_backends_can_be_asked_for_alone() {
        let of = |name: &str| Backends::of(&Snapshot::sample(), &Only(Some(name.into()))).0.len();
        assert_eq!((of("web"), of("idle"), of("default/six")), (2, 0, 1));
    }
}
