//! Full conntrack tables.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lb_common::address::{Family, Protocol, V4};
use lb_common::conntrack::{ConntrackEntry, State, Ticks};
use lb_common::outcome::Outcome;
use lb_ebpf::cases::Program;
use lb_ebpf::cases::frame::{self, Kind};
use lb_ebpf::cases::topology::{self, BACKEND_PORT, Pod, Target, Topology};
use lb_userspace::maps::conntrack_gc::now;
use weir_tests::kernel::in_own_namespace;
use weir_tests::wait::until;

use crate::testbed;

const CLIENT_PORT: u16 = 40_000;

#[test]
fn flows_that_have_been_over_for_long_give_their_places_to_new_ones() -> Result<()> {
    in_own_namespace(|| {
        let device = testbed::build()?.device;
        let closed = State::FIN_CLIENT.with(State::FIN_BACKEND);
        let full = Outcome::ForwardedConntrackFull;
        ensure!(outcome_of_a_connection(device, State::ESTABLISHED, 40)? == full, "they go on");
        ensure!(outcome_of_a_connection(device, closed, 10)? == full, "a FIN may be sent again");
        ensure!(
            outcome_of_a_connection(device, closed, 40)? == Outcome::Forwarded,
            "they are over"
        );
        Ok(())
    })
}

/// The outcome of a client's packet that establishes a connection, while the table is full of flows in this state,
/// last seen so many seconds ago.
fn outcome_of_a_connection(device: u32, state: State, seconds: u32) -> Result<Outcome> {
    let rows = topology::rows();
    let mut programs = testbed::load(&rows, device, |_| 64)?;
    let last_seen = Ticks(now().0.saturating_sub(Ticks::of_seconds(seconds)));
    programs.fill_flows::<V4>(&ConntrackEntry { state, last_seen, ..ConntrackEntry::empty() })?;
    let topology = Topology { family: Family::V4 };
    let (client, frontend) = (topology.client_pod(CLIENT_PORT), topology.frontend(Target::Local));
    let backend = topology.pod(Pod::Local, BACKEND_PORT);
    let mut run = |program, from: SocketAddr, to: SocketAddr, kind| -> Result<Outcome> {
        let packet = frame::frame(from, to, Protocol::TCP, kind, &[]);
        Ok(programs.test_run(program, device, &packet)?.outcome)
    };
    run(Program::FromPod, client, frontend, Kind::Open)?;
    run(Program::ToDevice, backend, client, Kind::Accept)?;
    run(Program::FromPod, client, frontend, Kind::Data)
}

/// A question that takes long to answer, and a hundred others meanwhile, for which there is room for half a second.
#[test]
fn a_slow_answer_is_translated_though_another_server_answers_a_hundred_questions() -> Result<()> {
    in_own_namespace(|| {
        let device = testbed::build()?.device;
        let rows = topology::rows();
        let mut programs = testbed::load(&rows, device, |_| 64)?;
        for family in Family::ALL {
            let topology = Topology { family };
            let frontend = topology.frontend(Target::Local);
            let backend = topology.pod(Pod::Local, BACKEND_PORT);
            let mut run = |program, from: SocketAddr, to: SocketAddr| -> Result<Outcome> {
                let packet = frame::frame(from, to, Protocol::UDP, Kind::Open, &[]);
                Ok(programs.test_run(program, device, &packet)?.outcome)
            };
            let slow = topology.client_pod(CLIENT_PORT);
            ensure!(run(Program::FromPod, slow, frontend)? == Outcome::Forwarded, "{family:?}");
            for number in 1..=100 {
                let begun = Instant::now();
                until("time passes", Duration::from_secs(5), || {
                    ensure!(begun.elapsed() > Duration::from_millis(20), "it is too early");
                    Ok(())
                })?;
                let client = topology.client_pod(CLIENT_PORT + number);
                let asked = run(Program::FromPod, client, frontend)?;
                let answered = run(Program::ToDevice, backend, client)?;
                ensure!(asked == Outcome::Forwarded, "{client} asks: {}", asked.name());
                ensure!(answered == Outcome::Replied, "{client} is answered: {}", answered.name());
            }
            let outcome = run(Program::ToDevice, backend, slow)?;
            ensure!(outcome == Outcome::Replied, "{family:?}: {}", outcome.name());
        }
        Ok(())
    })
}
