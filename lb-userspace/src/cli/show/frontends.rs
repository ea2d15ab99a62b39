//! Frontends, and which backends each source class gets there.

use comfy_table::Table;
use lb_common::address::{V4, V6, endpoint};
use lb_common::conntrack::Ticks;
use lb_common::service::{EmptyPoolReason, FrontendRow, Pool, SourceClass};
use serde::Serialize;

use super::snapshot::{Named, Only, Snapshot};
use crate::cli::output::{Report, table};
use crate::maps::PoolSlots;
use crate::maps::contents::InContents;

/// Frontends of both families.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct Frontends(Vec<Frontend>);

/// A frontend.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Frontend {
    /// `address:port`
    address: String,
    /// `tcp`, `udp` or `sctp`
    protocol: String,
    #[serde(flatten)]
    service: Named,
    /// The Service port's id.
    service_id: u32,
    /// Timeout of session affinity in seconds; 0 without it.
    affinity_seconds: u32,
    /// The source ranges that are allowed; `None` without a restriction.
    source_ranges: Option<Vec<String>>,
    /// What pods of this node get.
    pod: Choice,
    /// What clients outside this node get.
    network: Choice,
    /// What processes of this node get.
    host: Choice,
}

/// The pool of a source class.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Choice {
    /// Why the pool is empty, if it is: `no-endpoint` or `no-local-endpoint`.
    empty_reason: Option<&'static str>,
    /// Backends as `address:port`, sorted.
    backends: Vec<String>,
    /// Its first slot.
    first_slot: u32,
    /// How many slots it has.
    slots: u32,
}

impl Frontends {
    /// Those of `snapshot` that are asked for.
    pub fn of(snapshot: &Snapshot, only: &Only) -> Self {
        let mut frontends = family::<V4>(snapshot);
        frontends.extend(family::<V6>(snapshot));
        frontends.retain(|frontend| only.wants(&frontend.service));
        Self(frontends)
    }
}

fn family<A: InContents>(snapshot: &Snapshot) -> Vec<Frontend> {
    let rows = A::rows(&snapshot.contents).frontends.iter();
    rows.map(|(frontend, row)| {
        let choice = |class| choice::<A>(snapshot, row, class);
        Frontend {
            address: endpoint(frontend.address.to_ip(), frontend.port).to_string(),
            protocol: frontend.protocol.to_string(),
            service: snapshot.named(row.service),
            service_id: row.service.0,
            affinity_seconds: Ticks::to_seconds(row.affinity),
            source_ranges: row.is_restricted().then(|| ranges::<A>(snapshot, row)),
            pod: choice(SourceClass::Pod),
            network: choice(SourceClass::Network),
            host: choice(SourceClass::Host),
        }
    })
    .collect()
}

fn ranges<A: InContents>(snapshot: &Snapshot, row: &FrontendRow) -> Vec<String> {
    let ranges = A::rows(&snapshot.contents).source_ranges.keys();
    ranges.filter(|range| range.service == row.service).map(ToString::to_string).collect()
}

fn choice<A: InContents>(snapshot: &Snapshot, row: &FrontendRow, class: SourceClass) -> Choice {
    let pool = row.pool(class);
    let empty_reason = pool.empty_reason().map(|reason| match reason {
        EmptyPoolReason::NoEndpoint => "no-endpoint",
        EmptyPoolReason::NoLocalEndpoint => "no-local-endpoint",
    });
    if empty_reason.is_some() {
        return Choice { empty_reason, backends: Vec::new(), first_slot: 0, slots: 0 };
    }
    let Pool { base, length } = pool;
    let slots = snapshot.contents.slots.get(&base);
    let rows = &A::rows(&snapshot.contents).backends;
    let ids = slots.into_iter().flat_map(PoolSlots::backends);
    let backends = ids.filter_map(|id| rows.get(&id));
    let mut backends: Vec<_> =
        backends.map(|row| endpoint(row.address.to_ip(), row.port)).collect();
    backends.sort();
    let backends = backends.iter().map(ToString::to_string).collect();
    Choice { empty_reason, backends, first_slot: base, slots: length }
}

impl Frontend {
    fn affinity(&self) -> String {
        if self.affinity_seconds == 0 {
            String::new()
        } else {
            format!("{}s", self.affinity_seconds)
        }
    }

    fn restriction(&self) -> String {
        match self.source_ranges.as_deref() {
            None => String::new(),
            Some([]) => "none".into(),
            Some(ranges) => ranges.join("\n"),
        }
    }
}

impl Choice {
    fn text(&self, wide: bool) -> String {
        match self.empty_reason {
            Some(reason) => reason.into(),
            None if wide => self.backends.join("\n"),
            None if self.backends.len() == 1 => "1 backend".into(),
            None => format!("{} backends", self.backends.len()),
        }
    }
}

impl Report for Frontends {
    fn table(&self, wide: bool) -> Table {
        let mut header = vec!["FRONTEND", "PROTOCOL", "SERVICE", "PODS", "NETWORK", "HOST"];
        if wide {
            header.extend(["SLOTS", "SERVICE ID", "AFFINITY", "SOURCE RANGES"]);
        }
        let row = |frontend: &Frontend| {
            let mut row = vec![
                frontend.address.clone(),
                frontend.protocol.clone(),
                frontend.service.text(),
                frontend.pod.text(wide),
                frontend.network.text(wide),
                frontend.host.text(wide),
            ];
            if wide {
                let Choice { first_slot, slots, .. } = frontend.network;
                row.extend([format!("{first_slot}+{slots}"), frontend.service_id.to_string()]);
                row.extend([frontend.affinity(), frontend.restriction()]);
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
    fn frontends_are_listed_with_what_each_source_class_gets() {
        let frontends = Frontends::of(&Snapshot::sample(), &Only(None));
        insta::assert_snapshot!(format!(
            "{}\n{}",
            trimmed(&frontends.table(false)),
            trimmed(&frontends.table(true))
        ));
    }

    #[test]
    fn the_fields_of_a_frontend_are_these() {
        let frontends = Frontends::of(&Snapshot::sample(), &Only(Some("web".into())));
        insta::assert_snapshot!(json(&frontends.0[0]).unwrap());
    }
}
