//! What the agent's maps mean, without what depends on how they came to hold it: ids, generations, places of pools, and
//! what is kept for flows that go on.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use lb_common::address::{V4, V6, endpoint};
use lb_common::layout;
use lb_common::service::{Pool, ServiceId, SourceClass};
use lb_userspace::maps::contents::InContents;
use lb_userspace::maps::kernel::KernelStore;
use lb_userspace::maps::{Contents, FilterBits, MapStore};
use lb_userspace::pins::Pins;
use weir_tests::lab::Node;

/// What the maps say, a line for each thing.
pub type Meaning = BTreeSet<String>;

/// What the maps that are pinned on `node` mean.
pub fn meaning(node: &Node) -> Result<Meaning> {
    let pins = Pins::at(&node.bpffs.join(format!("weir/v{}", layout::VERSION)));
    let contents = KernelStore::open(&pins)?.read().context("the maps cannot be read")?;
    let missing = contents.needed_filter().without(&FilterBits::of_words(&contents.filter));
    ensure!(missing.is_empty(), "the filter lacks bits: {missing:?}");
    let mut lines = Meaning::new();
    family::<V4>(&contents, &mut lines);
    family::<V6>(&contents, &mut lines);
    lines.extend(contents.devices.iter().map(|(index, row)| format!("device {index} {row:?}")));
    lines.insert(format!("{:?}", contents.settings));
    Ok(lines)
}

/// Fails with what `found` has, and `wanted` has not, and the other way round.
pub fn compare(found: &Meaning, wanted: &Meaning) -> Result<()> {
    let lines = |which: &str, one: &Meaning, other: &Meaning| {
        one.difference(other).map(|line| format!("{which} {line}\n")).collect::<String>()
    };
    let differences = lines("+", found, wanted) + &lines("-", wanted, found);
    ensure!(differences.is_empty(), "the maps have (+), and fresh ones have (-):\n{differences}");
    Ok(())
}

fn family<A: InContents>(contents: &Contents, lines: &mut Meaning) {
    let rows = A::rows(contents);
    for (frontend, row) in &rows.frontends {
        let pools = SourceClass::ALL.map(|class| pool::<A>(contents, row.pool(class)));
        let (label, affinity, flags) = (label(contents, row.service), row.affinity, row.flags);
        lines.insert(format!("frontend {frontend} {label} {affinity} {flags} {pools:?}"));
    }
    for row in rows.backends.values().filter(|row| row.is_serving()) {
        let at = endpoint(row.address.to_ip(), row.port);
        let (protocol, label) = (row.protocol, label(contents, row.service));
        lines.insert(format!("backend {at}/{protocol} {label} {}", row.flags));
    }
    for (address, policy) in &rows.ip_policies {
        lines.insert(format!("policy {} {policy:?}", address.to_ip()));
    }
    for range in rows.source_ranges.keys() {
        lines.insert(format!("range {} {range}", label(contents, range.service)));
    }
}

fn label(contents: &Contents, service: ServiceId) -> String {
    contents.services.get(&service).map_or("no Service".into(), |label| format!("{:?}", label))
}

/// Which backend each slot has, shortened.
fn pool<A: InContents>(contents: &Contents, pool: Pool) -> String {
    if let Some(reason) = pool.empty_reason() {
        return format!("{reason:?}");
    }
    let slots = contents.slots.get(&pool.base).and_then(|slots| slots.ids()).unwrap_or_default();
    let backends = &A::rows(contents).backends;
    let address = |row: &lb_common::backend::Backend<A>| endpoint(row.address.to_ip(), row.port);
    let slots: Vec<String> = slots
        .iter()
        .take(pool.length as usize)
        .map(|id| backends.get(id).map(address).map_or("none".into(), |at| at.to_string()))
        .collect();
    let distinct: BTreeSet<&String> = slots.iter().collect();
    format!("{} slots {:x} of {distinct:?}", slots.len(), digest(&slots))
}

fn digest(value: &impl std::hash::Hash) -> u64 {
    use std::hash::Hasher;
    let mut hasher = std::hash::DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
