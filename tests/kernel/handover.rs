//! Programs of one set of maps hand packets over to those of the next: what an upgrade to another layout needs of the
//! kernel, and where flows are while it goes on.

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use lb_common::address::{Family, Protocol, V4, V6};
use lb_common::conntrack::table::Stored;
use lb_common::maps::{self, LayoutText};
use lb_common::outcome::Outcome;
use lb_ebpf::cases::Program;
use lb_ebpf::cases::frame::{Kind, frame};
use lb_ebpf::cases::topology::{self, Target, Topology};
use lb_userspace::config::DatapathLog;
use lb_userspace::datapath::loader::Object;
use lb_userspace::datapath::successors;
use lb_userspace::maps::other_layout::{InUse, copy_flows, for_each_flow};
use lb_userspace::maps::resize::copy_contents;
use lb_userspace::pins::{Handover, Layout, Pins};
use weir_tests::kernel::{Programs, TestRunResult, in_own_namespace};

use super::testbed;
use super::without_agent::{SMALL, lab, pins};

#[test]
fn flows_are_carried_over_while_the_programs_before_go_on() -> Result<()> {
    on_two_sets(|sets| {
        for family in Family::ALL {
            sets.check(Topology { family }, Program::FromNetwork)?;
        }
        Ok(())
    })
}

/// As of a release whose fields are wider.
#[test]
fn flows_with_values_that_are_too_wide_are_counted_as_such_and_not_as_without_place() -> Result<()>
{
    on_two_sets(|sets| {
        let topology = Topology { family: Family::V4 };
        for port in [40_000, 40_001] {
            sets.syn(InUse::Old, topology, Program::FromNetwork, port)?;
        }
        let own = Layout::own_text();
        let text = with_wide_field(&own)?;
        let layout = MapData::from_pin(sets.before.map(&maps::LAYOUT))?;
        let mut layout = Array::<_, LayoutText>::try_from(Map::Array(layout))?;
        let mut words: LayoutText = [0; 2048];
        bytemuck::cast_slice_mut(&mut words)[..text.len()].copy_from_slice(text.as_bytes());
        layout.set(0, words, 0)?;
        let found = sets.before.generations()?;
        let before = found.first().context("no set of maps")?;
        ensure!(!before.is_own(), "another layout is not noticed");
        let copied = copy_flows(before, &sets.to, InUse::Old)?;
        ensure!(copied.without_place == 0 && copied.too_wide > 0, "{copied:?}");
        Ok(())
    })
}

/// The layout `own` where `expected`, in half-open flows of IPv4, is as long as it and the backend behind it.
fn with_wide_field(own: &str) -> Result<String> {
    let mut of = "";
    let mut lines = Vec::new();
    let mut widened = 0;
    for line in own.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match *words.as_slice() {
            ["map", name, ..] => of = name,
            ["value", "expected", bit, bits, stride] if of == maps::HALF_OPEN.v4.name => {
                let bits: u32 = bits.parse()?;
                lines.push(format!("value expected {bit} {} {stride}", 2 * bits));
                widened += 1;
                continue;
            }
            _ => {}
        }
        lines.push(line.into());
    }
    ensure!(widened == 1, "{own}");
    Ok(lines.join("\n"))
}

/// Two sets of maps, and the programs of each.
struct Sets {
    device: u32,
    before: Pins,
    to: Pins,
    old: Programs,
    new: Programs,
}

/// Calls `test` with the maps of an agent, filled, and those of the next one beside them, which know as much, but no flow.
fn on_two_sets(test: impl FnOnce(&mut Sets) -> Result<()> + Send) -> Result<()> {
    let Some(lab) = lab()? else { return Ok(()) };
    let before = pins(&lab.node1);
    in_own_namespace(move || {
        let device = testbed::build()?.device;
        let world = topology::world_with_sockets(device);
        let object = Object::load(&before, &SMALL, None, DatapathLog::Off)?;
        let mut old = Programs::of(object, &SMALL)?;
        testbed::write_rows(&mut old, &world.tables, device)?;
        testbed::reset_maps(&mut old, &world.tables, device)?;
        let to = before.next();
        let mut object = Object::load(&to, &SMALL, None, DatapathLog::Off)?;
        copy_contents(&before, &to)?;
        successors::set(&mut object, &before)?;
        let new = Programs::of(object, &SMALL)?;
        test(&mut Sets { device, before, to, old, new })
    })
}

impl Sets {
    /// Where flows of `topology` are that begin before, between and after the steps of a takeover.
    fn check(&mut self, topology: Topology, program: Program) -> Result<()> {
        self.before.set_handover(Handover::None)?;
        let early = self.syn(InUse::Old, topology, program, 41_000)?;
        ensure!(early.outcome.name().starts_with("forwarded"), "{}", early.outcome);
        let copied = copy_flows(&self.before, &self.to, InUse::Old)?;
        ensure!(copied.entries > 0 && copied.without_place + copied.too_wide == 0, "{copied:?}");
        // Noted by the programs before, between the copy and the handover.
        let late = self.syn(InUse::Old, topology, program, 41_001)?;
        self.before.set_handover(Handover::Begun)?;
        ensure!(self.ports(topology)? == [41_000], "{:?}", self.ports(topology));

        // One that they do not know.
        let handed = self.syn(InUse::Old, topology, program, 41_002)?;
        ensure!(handed.outcome == Outcome::PassedHandedOver, "{}", handed.outcome);
        ensure!(is_translated(&handed, topology), "the next ones' programs have not seen it");
        ensure!(self.ports(topology)? == [41_000, 41_002], "{:?}", self.ports(topology));
        // What they do know goes on by theirs.
        let again = self.syn(InUse::Old, topology, program, 41_000)?;
        ensure!(again.frame == early.frame, "{}", again.outcome);

        let caught_up = copy_flows(&self.before, &self.to, InUse::Old)?;
        ensure!(caught_up.entries > copied.entries, "{caught_up:?}");
        ensure!(self.ports(topology)? == [41_000, 41_001, 41_002], "{:?}", self.ports(topology));
        self.new.forget_counts()?;
        for (port, before) in [(41_000, early), (41_001, late), (41_002, handed)] {
            let result = self.syn(InUse::New, topology, program, port)?;
            ensure!(result.frame == before.frame, "{port}: {}", result.outcome);
        }
        Ok(())
    }

    /// Runs a program of one set on a client's SYN.
    fn syn(
        &mut self,
        of: InUse,
        topology: Topology,
        program: Program,
        port: u16,
    ) -> Result<TestRunResult> {
        let (client, frontend) = (topology.client(port), topology.frontend(Target::Local));
        let packet = frame(client, frontend, Protocol::TCP, Kind::Open, b"");
        let programs = match of {
            InUse::Old => &mut self.old,
            InUse::New => &mut self.new,
        };
        programs.test_run(program, self.device, &packet)
    }

    /// The clients' ports of flows in the next maps.
    fn ports(&self, topology: Topology) -> Result<Vec<u16>> {
        match topology.family {
            Family::V4 => ports_of::<V4>(&self.to),
            Family::V6 => ports_of::<V6>(&self.to),
        }
    }
}

fn ports_of<A: Stored>(pins: &Pins) -> Result<Vec<u16>> {
    let mut ports = Vec::new();
    for_each_flow::<A>(pins, maps::HALF_OPEN.of(A::FAMILY), |tuple, entry| {
        if !entry.is_reply() {
            ports.push(tuple.source_port.number());
        }
    })?;
    ports.sort_unstable();
    Ok(ports)
}

/// Whether the frame is for the local pod, no longer for the frontend.
fn is_translated(result: &TestRunResult, topology: Topology) -> bool {
    use std::net::IpAddr;
    let contains = |ip| match ip {
        IpAddr::V4(ip) => result.frame.windows(4).any(|bytes| bytes == ip.octets()),
        IpAddr::V6(ip) => result.frame.windows(16).any(|bytes| bytes == ip.octets()),
    };
    !contains(topology.frontend(Target::Local).ip())
        && contains(topology.pod(topology::Pod::Local, 0).ip())
}
