//! The one text form of contents: a line for each entry, in the order of the maps' catalogue. Of
//! the filter, which follows from the other entries, only the number of bits is shown; of a pool,
//! how many slots each backend has. Generations are not shown: they depend on how often a write failed
//! on the way, and nothing else does.

use std::collections::BTreeMap;
use std::fmt;

use lb_common::address::{Address, Family, endpoint};
use lb_common::backend::{Backend, BackendId};
use lb_common::device::Device;
use lb_common::service::{FrontendRow, Pool, SourceClass, Verdict};

use super::contents::{Contents, FamilyContents};

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, label) in &self.services {
            writeln!(f, "service {id} {label:?}")?;
        }
        frontends(f, &self.v4)?;
        frontends(f, &self.v6)?;
        for (base, slots) in &self.slots {
            let pool = Pool { base: *base, length: slots.len() as u32 };
            writeln!(f, "slots {}{}", range(pool), Shares::of(slots))?;
        }
        backends(f, &self.v4)?;
        backends(f, &self.v6)?;
        let bits: u32 = self.filter.values().map(|bits| bits.count_ones()).sum();
        writeln!(f, "filter {bits} bits")?;
        for (index, device) in &self.devices {
            writeln!(f, "device {index}{}", addresses(device))?;
        }
        let (first, count) = (self.settings.first_source_port, self.settings.source_ports);
        match count.checked_sub(1) {
            Some(more) => {
                writeln!(f, "source-ports {first}-{}", u32::from(first) + u32::from(more))
            }
            None => writeln!(f, "source-ports none"),
        }
    }
}

fn frontends<A: Address>(f: &mut fmt::Formatter<'_>, rows: &FamilyContents<A>) -> fmt::Result {
    for (frontend, row) in &rows.frontends {
        writeln!(f, "frontend {frontend} service {}{}", row.service, pools(row))?;
    }
    Ok(())
}

/// `all:` where every source class gets the same.
fn pools(row: &FrontendRow) -> String {
    let [pod, network, host] = row.pools;
    if pod == network && network == host {
        return format!(" all:{}", pool(pod));
    }
    let of = |class: SourceClass| format!(" {class}:{}", pool(row.pool(class)));
    SourceClass::ALL.map(of).concat()
}

fn pool(pool: Pool) -> String {
    match pool.verdict() {
        None => range(pool),
        Some(Verdict::NoEndpoint) => "no-endpoint".to_owned(),
        Some(Verdict::NoLocalEndpoint) => "no-local-endpoint".to_owned(),
    }
}

fn range(pool: Pool) -> String {
    format!("{}+{}", pool.base, pool.length)
}

/// How many slots each backend has.
struct Shares(BTreeMap<BackendId, u32>);

impl Shares {
    fn of(slots: &[BackendId]) -> Self {
        let mut shares = BTreeMap::new();
        for id in slots {
            *shares.entry(*id).or_insert(0) += 1;
        }
        Self(shares)
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(id, share)| write!(f, " {id}*{share}"))
    }
}

/// Ids count per family: `v4/1` and `v6/1` are two backends.
fn backends<A: Address>(f: &mut fmt::Formatter<'_>, rows: &FamilyContents<A>) -> fmt::Result {
    let family = match A::FAMILY {
        Family::V4 => "v4",
        Family::V6 => "v6",
    };
    for (id, row) in &rows.backends {
        let at = endpoint(row.address.to_ip(), row.port);
        let (protocol, service) = (row.protocol, row.service);
        let state = state(row);
        writeln!(f, "backend {family}/{id} {at}/{protocol} service {service} {state}")?;
    }
    Ok(())
}

fn state<A>(row: &Backend<A>) -> &'static str {
    match (row.is_serving(), row.is_local()) {
        (true, true) => "serving here",
        (true, false) => "serving elsewhere",
        (false, _) => "retired",
    }
}

fn addresses(device: &Device) -> String {
    let v4 = (!device.v4.is_unspecified()).then(|| format!(" {}", device.v4));
    let v6 = (!device.v6.is_unspecified()).then(|| format!(" {}", device.v6));
    let xdp = device.xdp_sends().then(|| " xdp-sends".to_owned());
    [v4, v6, xdp].into_iter().flatten().collect()
}
