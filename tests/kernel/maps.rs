//! What is written to the kernel's maps is read from them again; and flows that are over are
//! garbage-collected there.

use std::time::Instant;

use anyhow::{Result, ensure};
use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues};
use lb_common::address::{Port, Protocol, Tuple, V4, V6};
use lb_common::backend::{Backend, BackendId, Traffic};
use lb_common::conntrack::table::WhenFull;
use lb_common::conntrack::{ConntrackEntry, State, Ticks};
use lb_common::device::Device;
use lb_common::maps::{CONNTRACK, Capacities, TRAFFIC};
use lb_common::service::{
    EmptyPoolReason, Frontend, FrontendRow, IpPolicy, Pool, ServiceId, ServiceLabel,
};
use lb_common::settings::{Prefix, Settings};
use lb_common::snat::{Rows, TIERS};
use lb_common::source_range::{LISTED, SourceRange};
use lb_userspace::config::{DatapathLog, TableSizes, capacities};
use lb_userspace::datapath::loader::Object;
use lb_userspace::host::processors;
use lb_userspace::maps::conntrack_gc::{KernelFlows, now};
use lb_userspace::maps::flow_table::FlowTable;
use lb_userspace::maps::kernel::KernelStore;
use lb_userspace::maps::{
    Contents, FamilyOperation, MapError, MapStore, Operation, PoolSlots, diff,
};
use lb_userspace::pins::Pins;

use super::without_agent::{SMALL, lab, pins};

/// Runs `test` on maps of its own.
fn on_maps(test: impl FnOnce(&Pins) -> Result<()>) -> Result<()> {
    on_maps_of(&SMALL, test)
}

fn on_maps_of(capacities: &Capacities, test: impl FnOnce(&Pins) -> Result<()>) -> Result<()> {
    let Some(lab) = lab()? else {
        return Ok(());
    };
    let pins = pins(&lab.node1);
    drop(Object::load(&pins, capacities, None, DatapathLog::Off)?);
    test(&pins)
}

fn backend<A>(address: A, generation: u32) -> Backend<A> {
    Backend {
        address,
        port: Port::new(8080),
        protocol: Protocol::TCP,
        flags: Backend::<A>::SERVING,
        generation,
        service: ServiceId(1),
    }
}

/// A row in every map.
fn contents() -> Contents {
    let mut contents = Contents {
        settings: Settings {
            snat_tiers: [Rows::of_spans(2, 3); TIERS],
            services_v4: Prefix { first: V4([10, 96, 0, 0]), mask: V4([255, 240, 0, 0]) },
            ..Settings::nothing()
        },
        ..Contents::default()
    };
    let label = ServiceLabel::new("default", "web", "http", Protocol::TCP);
    contents.services.extend(label.map(|label| (ServiceId(1), label)));
    let pool = |base, length| Pool { base, length };
    let row = |first, second| FrontendRow {
        service: ServiceId(1),
        pools: [first, second, Pool::empty(EmptyPoolReason::NoLocalEndpoint)],
        affinity: 10_800,
        flags: FrontendRow::RESTRICTED,
    };
    let port = Port::new(80);
    let v4 = Frontend::new(V4([10, 96, 0, 1]), port, Protocol::TCP);
    contents.v4.frontends.insert(v4, row(pool(0, 3), pool(4090, 6)));
    let v6 = Frontend::new(V6([1; 16]), port, Protocol::UDP);
    contents.v6.frontends.insert(v6, row(pool(100, 1), pool(100, 1)));
    contents.v4.backends.insert(BackendId(1), backend(V4([10, 244, 0, 1]), 3));
    contents.v4.backends.insert(BackendId(1023), backend(V4([10, 244, 0, 2]), 4));
    contents.v6.backends.insert(BackendId(2), backend(V6([2; 16]), 1));
    let row = IpPolicy { flags: IpPolicy::CLUSTER_IP | IpPolicy::ECHO };
    contents.v4.ip_policies.insert(V4([10, 96, 0, 1]), row);
    contents.v6.ip_policies.insert(V6([1; 16]), IpPolicy { flags: 0 });
    let ranges = [(ServiceId(1), 0), (ServiceId(1), 24), (SourceRange::<V4>::CLUSTER, 12)];
    let ranges =
        ranges.map(|(service, length)| SourceRange::new(service, V4([10, 96, 0, 0]), length));
    contents.v4.source_ranges.extend(ranges.map(|range| (range, LISTED)));
    contents.v6.source_ranges.insert(SourceRange::new(ServiceId(1), V6([3; 16]), 128), LISTED);
    contents.slots.insert(0, PoolSlots::of([BackendId(1), BackendId(1023), BackendId(1)]));
    contents.slots.insert(4090, PoolSlots::of([BackendId(1); 6]));
    contents.slots.insert(100, PoolSlots::of([BackendId(2)]));
    contents.filter.extend([(0, 1), (16_383, u64::MAX)]);
    let device =
        Device { v4: V4([192, 0, 2, 1]), v6: V6([0; 16]), flags: 0, link: [2, 0, 0, 0, 0, 1] };
    contents.devices.insert(2, device);
    contents
}

/// Applies operations as the agent does: returns how many are done, and why the next one failed.
fn write(store: &mut KernelStore, operations: &[Operation]) -> (usize, Result<(), MapError>) {
    let mut all_done = 0;
    while all_done < operations.len() {
        let (done, result) = store.apply_first(&operations[all_done..]);
        all_done += done;
        if result.is_err() {
            return (all_done, result);
        }
    }
    (all_done, Ok(()))
}

#[test]
fn contents_are_read_as_they_were_written_and_removed_without_a_trace() -> Result<()> {
    on_maps(|pins| {
        let mut store = KernelStore::open(pins)?;
        let empty = store.read()?;
        ensure!(empty == Contents::default(), "new maps are not empty: {empty:?}");
        write(&mut store, &diff(&empty, &contents())).1?;
        // As the next agent does it.
        let read = KernelStore::open(pins)?.read()?;
        ensure!(read == contents(), "{read:?}");
        ensure!(diff(&read, &contents()).is_empty());
        write(&mut store, &diff(&read, &Contents::default())).1?;
        ensure!(store.read()? == Contents::default());
        Ok(())
    })
}

#[test]
fn more_ranges_than_are_read_at_a_time_are_read_as_they_were_written() -> Result<()> {
    on_maps(|pins| {
        let mut contents = Contents::default();
        for number in 0..10_000_u32 {
            let v4 = V4(number.to_be_bytes());
            contents.v4.source_ranges.insert(SourceRange::of(ServiceId(1), v4), LISTED);
            let v6 = V6((u128::from(number) << 64).to_be_bytes());
            contents.v6.source_ranges.insert(SourceRange::new(ServiceId(1), v6, 64), LISTED);
        }
        let mut store = KernelStore::open(pins)?;
        write(&mut store, &diff(&Contents::default(), &contents)).1?;
        ensure!(store.read()? == contents, "what was read differs");
        Ok(())
    })
}

#[test]
fn a_full_map_is_reported_with_the_flag_that_sets_its_size() -> Result<()> {
    on_maps(|pins| {
        let mut store = KernelStore::open(pins)?;
        let row = FrontendRow {
            service: ServiceId(1),
            pools: [Pool::empty(EmptyPoolReason::NoEndpoint); 3],
            affinity: 0,
            flags: 0,
        };
        let frontend = |i: u32| Frontend::new(V4(i.to_be_bytes()), Port::new(80), Protocol::TCP);
        let operation = |i| Operation::V4(FamilyOperation::Frontend(frontend(i), Some(row)));
        let too_many: Vec<Operation> = (0..SMALL.frontends + 5).map(operation).collect();
        let (done, result) = write(&mut store, &too_many);
        let message = result.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(message.contains("--frontend-table-size"), "{message}");
        // What counts as done is what is there, and no more.
        ensure!(done == SMALL.frontends as usize, "{done} are done");
        let written = store.read()?.v4.frontends;
        ensure!(written == (0..SMALL.frontends).map(|i| (frontend(i), row)).collect());
        Ok(())
    })
}

#[test]
fn a_backend_that_is_new_under_an_id_counts_from_zero_and_a_known_one_goes_on() -> Result<()> {
    on_maps(|pins| {
        let mut store = KernelStore::open(pins)?;
        let id = BackendId(7);
        let mut row = backend(V4([10, 244, 0, 1]), 1);
        store.apply(&Operation::V4(FamilyOperation::Backend(id, Some(row))))?;
        let counted = Traffic { packets: 5, ..Traffic::default() };
        let map = Map::PerCpuArray(MapData::from_pin(pins.map(&TRAFFIC.v4))?);
        let mut traffic: PerCpuArray<_, [u64; 5]> = map.try_into()?;
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        let on_each = vec![bytemuck::cast(counted); cpus];
        traffic.set(id.0, PerCpuValues::try_from(on_each)?, 0)?;

        row.flags = 0;
        store.apply(&Operation::V4(FamilyOperation::Backend(id, Some(row))))?;
        ensure!(store.traffic_v4(id)?.packets == 5 * cpus as u64);
        // The same among all, up to the last of the map's.
        let all = store.traffic_of_v4(BackendId(8))?;
        ensure!(all.len() == 8 && all[7] == store.traffic_v4(id)?, "{all:?}");
        ensure!(all[..7].iter().all(|other| *other == Traffic::default()), "{all:?}");
        ensure!(store.traffic_of_v4(BackendId(u32::MAX))?.len() == SMALL.backends as usize);
        ensure!(store.traffic_of_v4(BackendId(0))?.is_empty());
        row.generation = 2;
        store.apply(&Operation::V4(FamilyOperation::Backend(id, Some(row))))?;
        ensure!(store.traffic_v4(id)? == Traffic::default());
        Ok(())
    })
}

/// The entry of a flow's one direction that was last seen at `last_seen`.
fn entry(rewritten: Tuple<V4>, flags: u8, last_seen: Ticks) -> ConntrackEntry<V4> {
    ConntrackEntry {
        rewritten,
        backend: BackendId(rewritten.destination_port.number().into()),
        generation: 1,
        last_seen,
        state: State::REPLIED.with(State::ESTABLISHED),
        flags,
        ..ConntrackEntry::empty()
    }
}

#[test]
fn expired_flows_of_many_are_removed_and_the_others_kept() -> Result<()> {
    on_maps(|pins| {
        let flows = FlowTable::open(pins, &CONNTRACK.v4)?;
        let insert = |tuple, entry| {
            ensure!(
                flows.insert(&tuple, &entry, WhenFull::Refuse) == Ok(()),
                "{tuple} finds no place"
            );
            Ok(())
        };
        let now = now();
        let minutes_ago = Ticks(now.0.wrapping_sub(Ticks::of_seconds(300)));
        let client = V4([192, 0, 2, 9]);
        // Every other one was last seen too long ago for UDP.
        for port in 1..=3000 {
            let seen = if port % 2 == 0 { minutes_ago } else { now };
            let (port, udp) = (Port::new(port), Protocol::UDP);
            let original = Tuple::new(client, port, V4([10, 96, 0, 1]), Port::new(53), udp);
            let reply = Tuple::new(V4([10, 244, 0, 1]), Port::new(5353), client, port, udp);
            insert(original, entry(reply.reversed(), 0, seen))?;
            insert(reply, entry(original.reversed(), ConntrackEntry::<V4>::REPLY, seen))?;
        }
        let run = KernelFlows::open(pins)?.collect(now)?;
        // The second entry of a flow may be removed before it is read.
        ensure!(run.removed == 3000 && (4500..=6000).contains(&run.entries), "{run:?}");
        ensure!(run.referenced.backends.v4.contains(&BackendId(5353)));
        let mut left = 0;
        flows.for_each(
            || now,
            |_, _| {
                left += 1;
                anyhow::Ok(())
            },
        )?;
        ensure!(left == 3000, "{left} are left");
        Ok(())
    })
}

/// With `--nocapture` it says how long that takes.
#[test]
fn a_large_nodes_table_is_collected_where_it_is_full() -> Result<()> {
    const NODE_MEMORY: u64 = 24 << 30;
    let sizes = capacities(TableSizes::default(), NODE_MEMORY, processors::count()?);
    on_maps_of(&sizes, |pins| {
        let flows = FlowTable::open(pins, &CONNTRACK.v4)?;
        let now = now();
        let (service, backend) = (V4([10, 96, 0, 1]), V4([10, 244, 0, 1]));
        let (dns, udp) = (Port::new(53), Protocol::UDP);
        let count = sizes.conntrack / 2;
        for number in 0..count {
            let [_, a, b, c] = number.to_be_bytes();
            let (client, port) = (V4([192, 0, 2, a]), Port([b, c]));
            let original = Tuple::new(client, port, service, dns, udp);
            let reply = Tuple::new(backend, dns, client, port, udp);
            for (tuple, rewritten, flags) in [
                (original, reply.reversed(), 0),
                (reply, original.reversed(), ConntrackEntry::<V4>::REPLY),
            ] {
                let entry = entry(rewritten, flags, now);
                let inserted = flows.insert(&tuple, &entry, WhenFull::Refuse);
                ensure!(inserted == Ok(()), "{tuple} finds no place");
            }
        }
        let tables = KernelFlows::open(pins)?;
        let begun = Instant::now();
        let kept = tables.collect(now)?;
        println!("{} entries are read in {:?}", kept.entries, begun.elapsed());
        ensure!(kept.removed == 0 && kept.entries == u64::from(2 * count), "{kept:?}");
        let later = Ticks(now.0.wrapping_add(Ticks::of_seconds(300)));
        let begun = Instant::now();
        let removed = tables.collect(later)?;
        println!("{} entries are removed in {:?}", removed.removed, begun.elapsed());
        ensure!(removed.removed == u64::from(2 * count), "{removed:?}");
        Ok(())
    })
}
