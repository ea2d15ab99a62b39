//! Tables of two sizes at once: the programs that work on both, and the way of entries from one to the other.

use std::convert::Infallible;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Port, Protocol, Tuple, V4};
use lb_common::conntrack::table::WhenFull;
use lb_common::conntrack::{ConntrackEntry, State, Ticks};
use lb_common::maps::{self, Capacities, PerFamily};
use lb_userspace::config::DatapathLog;
use lb_userspace::datapath::loader::{Object, Old};
use lb_userspace::datapath::programs::Program;
use lb_userspace::maps::conntrack_gc::now;
use lb_userspace::maps::flow_table::FlowTable;
use lb_userspace::maps::resize::{
    Moved, NewFlows, check_room, move_flows, new_flows, send_new_flows_to_new,
};
use lb_userspace::pins::Pins;

use super::without_agent::{SMALL, lab, pins};

const LARGE: Capacities = Capacities { conntrack: 40_000, half_open: 20_000, ..SMALL };

/// Calls `test` with maps of [`SMALL`], those of [`LARGE`] beside them, and the programs that work on both.
fn on_both_sizes(test: impl FnOnce(&Pins, &Pins, &mut Object) -> Result<()>) -> Result<()> {
    let Some(lab) = lab()? else {
        return Ok(());
    };
    let pins = pins(&lab.node1);
    drop(Object::load(&pins, &SMALL, None, DatapathLog::Off)?);
    let resized = pins.resized();
    pins.create_resized()?;
    for map in maps::pinned().filter(|map| SMALL.entries(map) == LARGE.entries(map)) {
        resized.share(map, &pins)?;
    }
    let old = Old { pins: &pins, capacities: &SMALL };
    let mut both = Object::load(&resized, &LARGE, Some(&old), DatapathLog::Off)?;
    test(&pins, &resized, &mut both)
}

/// With `--nocapture` it says what they cost the verifier.
#[test]
fn programs_that_work_on_both_sizes_are_loaded() -> Result<()> {
    on_both_sizes(|pins, resized, both| {
        ensure!(both.without_xdp.is_none(), "{:?}", both.without_xdp);
        for program in Program::TC.into_iter().chain([Program::NetworkXdp]) {
            let loaded = both.ebpf.program(program.name()).context("no such program")?;
            let info = loaded.info()?;
            let verified = info.verified_instruction_count();
            println!("{}: {verified:?} instructions verified", program.name());
            ensure!(verified.is_none_or(|verified| verified < 700_000), "{}", program.name());
        }
        ensure!(new_flows(resized)? == NewFlows::ToOld);
        send_new_flows_to_new(resized)?;
        ensure!(new_flows(resized)? == NewFlows::ToNew);
        // What was there is still in use until the folders are exchanged.
        ensure!(sizes(pins)? == (SMALL.conntrack, SMALL.frontends));
        pins.exchange()?;
        pins.discard_resized()?;
        ensure!(sizes(pins)? == (LARGE.conntrack, LARGE.frontends));
        ensure!(!resized.map(&maps::SERVICES).exists(), "old maps are still pinned");
        Ok(())
    })
}

/// Tables have whole buckets: a little more than was asked for.
fn sizes(pins: &Pins) -> Result<(u32, u32)> {
    let there = pins.capacities(0)?.context("maps are missing")?;
    let asked = |is: u32, of: u32| if (of..of + 8).contains(&is) { of } else { is };
    let conntrack = asked(asked(there.conntrack, SMALL.conntrack), LARGE.conntrack);
    Ok((conntrack, there.frontends))
}

#[test]
fn entries_are_as_they_were_in_tables_of_another_size() -> Result<()> {
    on_both_sizes(|pins, resized, _| {
        let before = filled(pins, &maps::CONNTRACK, SMALL.conntrack / 2)?;
        let half_open = filled(pins, &maps::HALF_OPEN, 100)?;
        let changes = |map: &maps::Map| SMALL.entries(map) != LARGE.entries(map);
        check_room(pins, resized)?;
        let Moved { entries, without_place } = move_flows(pins, resized, changes)?;
        let moved = before.len() + half_open.len();
        ensure!((entries, without_place) == (moved as u64, 0), "{entries}, {without_place}");
        ensure!(entries_of(resized, &maps::CONNTRACK)? == before);
        ensure!(entries_of(resized, &maps::HALF_OPEN)? == half_open);
        ensure!(entries_of(pins, &maps::CONNTRACK)?.is_empty());
        ensure!(entries_of(pins, &maps::HALF_OPEN)?.is_empty());
        // Once more, as an agent does that finds what another one had begun.
        ensure!(move_flows(pins, resized, changes)? == Moved::default());
        Ok(())
    })
}

#[test]
fn more_flows_than_the_other_size_holds_are_noticed_before() -> Result<()> {
    on_both_sizes(|pins, resized, _| {
        filled(resized, &maps::CONNTRACK, SMALL.conntrack * 2)?;
        let error = check_room(resized, pins).err().context("they fit")?.to_string();
        ensure!(
            error.contains("CONNTRACK_V4") && error.contains("--conntrack-table-size"),
            "{error}"
        );
        check_room(pins, resized)?;
        Ok(())
    })
}

type Entries = Vec<(Tuple<V4>, ConntrackEntry<V4>)>;

/// Fills a table with entries of several ages, states and expectations; returns them.
fn filled(pins: &Pins, tables: &'static PerFamily, count: u32) -> Result<Entries> {
    let table = FlowTable::<V4>::open(pins, &tables.v4)?;
    for number in 0..count {
        let [_, second, third, fourth] = number.to_be_bytes();
        let (client, service) = (V4([10, second, third, fourth]), V4([10, 96, 0, 1]));
        let tuple = Tuple::new(client, Port::new(4000), service, Port::new(80), Protocol::TCP);
        let entry = ConntrackEntry {
            rewritten: Tuple::new(
                client,
                Port::new(4000),
                V4([10, 244, 0, 1]),
                Port::new(8080),
                Protocol::TCP,
            ),
            last_seen: Ticks(now().0.wrapping_sub(number % 60)),
            state: if number % 3 == 0 { State::REPLIED } else { State::ESTABLISHED },
            flags: if number % 2 == 0 { ConntrackEntry::<V4>::REPLY } else { 0 },
            expected: number,
            ..ConntrackEntry::empty()
        };
        ensure!(
            table.insert(&tuple, &entry, WhenFull::Refuse) == Ok(()),
            "{number} finds no place"
        );
    }
    let entries = entries_of(pins, tables)?;
    ensure!(entries.len() == count as usize, "{} entries", entries.len());
    Ok(entries)
}

/// Every entry of IPv4, in order.
fn entries_of(pins: &Pins, tables: &'static PerFamily) -> Result<Entries> {
    let mut entries = Vec::new();
    let table = FlowTable::<V4>::open(pins, &tables.v4)?;
    let Ok(()) = table.for_each::<Infallible>(now, |tuple, entry| {
        entries.push((tuple, entry));
        Ok(())
    });
    entries.sort_by_key(|(tuple, _)| *tuple);
    Ok(entries)
}
