//! The text form of contents: one line per entry, in the order of the maps' catalogue. Of the filter,
//! which follows from the other entries, only the number of bits is shown; of a pool, the number of
//! slots of each backend. Generations are not shown: unlike everything else, they depend on how many
//! writes failed.

use std::fmt;

use lb_common::address::{Address, Family, endpoint};
use lb_common::backend::Backend;
use lb_common::conntrack::Ticks;
use lb_common::device::Device;
use lb_common::service::{EmptyPoolReason, FrontendRow, Pool, SourceClass};
use lb_common::settings::{Prefix, Settings};
use lb_common::source_range::SourceRange;

use super::contents::{Contents, FamilyContents};

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, label) in &self.services {
            writeln!(f, "service {id} {label:?}")?;
        }
        frontends(f, &self.v4)?;
        frontends(f, &self.v6)?;
        for (base, slots) in &self.slots {
            let pool = Pool { base: *base, length: slots.len() };
            writeln!(f, "pool {}{slots}", range(pool))?;
        }
        backends(f, &self.v4)?;
        backends(f, &self.v6)?;
        policies_and_ranges(f, &self.v4)?;
        policies_and_ranges(f, &self.v6)?;
        let bits: u32 = self.filter.values().map(|bits| bits.count_ones()).sum();
        writeln!(f, "filter {bits} bits")?;
        for (index, device) in &self.devices {
            writeln!(f, "device {index}{}", addresses(device))?;
        }
        let Settings { services_v4, services_v6, .. } = self.settings;
        writeln!(f, "service-range {} {}", prefix(services_v4), prefix(services_v6))?;
        if self.settings.namespace != 0 {
            let Settings { namespace, own_v4, own_v6, .. } = self.settings;
            let whose = if self.settings.balances_pods_sockets() { "all" } else { "host" };
            writeln!(f, "sockets {whose} of {namespace} as {own_v4} {own_v6}")?;
        }
        let [first, second, third] = self.settings.snat_tiers.map(|tier| tier.ports());
        writeln!(f, "snat-ports {first}, then {second}, then {third}")
    }
}

fn frontends<A: Address>(f: &mut fmt::Formatter<'_>, rows: &FamilyContents<A>) -> fmt::Result {
    for (frontend, row) in &rows.frontends {
        let (service, conditions) = (row.service, conditions(row));
        writeln!(f, "frontend {frontend} service {service}{}{conditions}", pools(row))?;
    }
    Ok(())
}

/// What decides a flow's backend besides the pools.
fn conditions(row: &FrontendRow) -> String {
    let seconds = Ticks::to_seconds(row.affinity);
    let affinity = (row.affinity != 0).then(|| format!(" affinity {seconds}s"));
    let restricted = row.is_restricted().then(|| " restricted".to_owned());
    let local = SourceClass::ALL.into_iter().filter(|class| row.is_local(*class));
    let local: Vec<String> = local.map(|class| class.to_string()).collect();
    let local = match local.as_slice() {
        [] => None,
        all if all.len() == SourceClass::ALL.len() => Some(" local:all".to_owned()),
        some => Some(format!(" local:{}", some.join(","))),
    };
    [affinity, restricted, local].into_iter().flatten().collect()
}

/// `all:` if every source class has the same pool.
fn pools(row: &FrontendRow) -> String {
    let [pod, network, host] = row.pools;
    if pod == network && network == host {
        return format!(" all:{}", pool(pod));
    }
    let of = |class: SourceClass| format!(" {class}:{}", pool(row.pool(class)));
    SourceClass::ALL.map(of).concat()
}

fn pool(pool: Pool) -> String {
    match pool.empty_reason() {
        None => range(pool),
        Some(EmptyPoolReason::NoEndpoint) => "no-endpoint".to_owned(),
        Some(EmptyPoolReason::NoLocalEndpoint) => "no-local-endpoint".to_owned(),
    }
}

/// The first and the last slot.
fn range(pool: Pool) -> String {
    format!("{}..{}", pool.base, pool.base.saturating_add(pool.length.saturating_sub(1)))
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

fn state<A>(row: &Backend<A>) -> String {
    let locality = if row.is_local() { "local" } else { "remote" };
    let policies = match (row.is_for(false), row.is_for(true)) {
        (true, true) => " for Cluster, Local",
        (true, false) => " for Cluster",
        (false, true) => " for Local",
        (false, false) => "",
    };
    if row.is_serving() { format!("{locality} serving{policies}") } else { "retired".to_owned() }
}

/// What happens to packets that are not for a frontend, and the clients of restricted frontends.
fn policies_and_ranges<A: Address>(
    f: &mut fmt::Formatter<'_>,
    rows: &FamilyContents<A>,
) -> fmt::Result {
    for (address, row) in &rows.ip_policies {
        let reject = if row.rejects() { " reject-other-ports" } else { "" };
        let echo = if row.replies_to_echo() { " echo-reply" } else { "" };
        writeln!(f, "ip-policy {address}{reject}{echo}")?;
    }
    for range in rows.source_ranges.keys() {
        if range.service == SourceRange::<A>::CLUSTER {
            writeln!(f, "source-range {range} service-cidr")?;
        } else {
            writeln!(f, "source-range {range} service {}", range.service)?;
        }
    }
    Ok(())
}

fn prefix<A: Address>(prefix: Prefix<A>) -> String {
    if prefix == Prefix::nothing() {
        return "none".to_owned();
    }
    let bits: u32 = prefix.mask.words().iter().map(|word| word.count_ones()).sum();
    if bits == 0 { "anywhere".to_owned() } else { format!("{}/{bits}", prefix.first) }
}

fn addresses(device: &Device) -> String {
    let v4 = (!device.v4.is_unspecified()).then(|| format!(" {}", device.v4));
    let v6 = (!device.v6.is_unspecified()).then(|| format!(" {}", device.v6));
    let xdp = device.xdp_sends().then(|| " xdp-sends".to_owned());
    let bare = (!device.has_link_header()).then(|| " no-link-header".to_owned());
    let link = (device.link != [0; 6]).then(|| {
        let bytes: Vec<String> = device.link.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(" link {}", bytes.join(":"))
    });
    [v4, v6, xdp, bare, link].into_iter().flatten().collect()
}
