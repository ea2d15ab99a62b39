//! Readings of the kernel's maps. What is not needed for them, and is most of the memory, is not read: slots and filter.

use std::collections::BTreeMap;
use std::fmt;

use lb_common::address::{V4, V6};
use lb_common::backend::{Backend, BackendId, Traffic};
use lb_common::outcome::Outcome;
use lb_common::service::{EmptyPoolReason, FrontendRow, ServiceId, SourceClass};

use super::{BackendTraffic, NoLocal, Reader, Reading};
use crate::maps::contents::InContents;
use crate::maps::kernel::KernelStore;
use crate::maps::{Contents, MapError};
use crate::model::Name;

impl fmt::Debug for KernelStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KernelStore")
    }
}

impl Reader for KernelStore {
    fn read(&self) -> Result<Reading, MapError> {
        let contents = self.read_rows()?;
        let packets = Outcome::ALL.iter().map(|o| Ok((*o, self.outcomes(*o)?)));
        let mut backends = traffic::<V4>(&contents, |end| self.traffic_of_v4(end))?;
        backends.extend(traffic::<V6>(&contents, |end| self.traffic_of_v6(end))?);
        Ok(Reading {
            packets: packets.collect::<Result<_, MapError>>()?,
            fill: self.fill(&contents),
            no_local: no_local(&contents),
            backends,
        })
    }
}

fn traffic<A: InContents>(
    contents: &Contents,
    read: impl Fn(BackendId) -> Result<Vec<Traffic>, MapError>,
) -> Result<Vec<BackendTraffic>, MapError> {
    let last = A::rows(contents).backends.keys().next_back();
    let counted = read(BackendId(last.map_or(0, |id| id.0 + 1)))?;
    let named = A::rows(contents).backends.iter().filter_map(|(id, row): (_, &Backend<A>)| {
        let (namespace, name, _) = contents.services.get(&row.service)?.names();
        Some((*id, row.generation, Name::new(namespace, name)))
    });
    let counted = named.filter_map(|(id, generation, service)| {
        let traffic = *counted.get(id.0 as usize)?;
        Some(BackendTraffic { id: (A::FAMILY, id), generation, service, traffic })
    });
    Ok(counted.collect())
}

fn no_local(contents: &Contents) -> NoLocal {
    let mut wanting: BTreeMap<ServiceId, NoLocal> = BTreeMap::new();
    let rows = contents.v4.frontends.values().chain(contents.v6.frontends.values());
    for row in rows {
        let wants = |class| row_wants_local(row, class);
        let entry = wanting.entry(row.service).or_default();
        // Pods are inside the cluster: nothing but the internal policy can keep them from endpoints.
        if wants(SourceClass::Pod) {
            entry.internal = 1;
        } else if wants(SourceClass::Network) {
            entry.external = 1;
        }
    }
    wanting.values().fold(NoLocal::default(), |sum, one| NoLocal {
        internal: sum.internal + one.internal,
        external: sum.external + one.external,
    })
}

fn row_wants_local(row: &FrontendRow, class: SourceClass) -> bool {
    row.pool(class).empty_reason() == Some(EmptyPoolReason::NoLocalEndpoint)
}
