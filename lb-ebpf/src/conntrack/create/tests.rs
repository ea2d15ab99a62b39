//! Tests of source ports for SNAT: a flow gets one while there is one, whatever hints say.

use std::collections::BTreeSet;

use lb_common::address::{Port, Protocol, Tuple, V4, V6};
use lb_common::backend::BackendId;
use lb_common::conntrack::ConntrackEntry;
use lb_common::snat::{HINT_ROWS, Rows, TIERS, WORDS};

use super::*;
use crate::in_memory::{InMemory, Rows as Tables, World as Memory};
use crate::packet_state::Scratch;
use crate::world::Conntrack;

/// Ports 1024 to 29,695: those of a node whose kernel gives the others to sockets.
const PORTS: Rows = Rows::of_spans(1, 28);

fn world() -> Memory<Tables> {
    Memory::new(Tables { snat_tiers: [PORTS; TIERS], ..Tables::default() })
}

/// A node's address, a backend of another node, and a client, in one family.
struct Ends<A> {
    node: A,
    backend: A,
    client: A,
}

const V4_ENDS: Ends<V4> =
    Ends { node: V4([192, 0, 2, 1]), backend: V4([10, 244, 2, 6]), client: V4([198, 51, 100, 9]) };

const V6_ENDS: Ends<V6> = Ends { node: v6(0, 1), backend: v6(2, 6), client: v6(9, 9) };

const fn v6(network: u8, host: u8) -> V6 {
    V6([0x20, 1, 0xd, 0xb8, 0, network, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
}

/// Begins the flow of `client_port` with SNAT; returns its source port.
fn begin<A: InMemory>(
    world: &Memory<Tables>,
    state: &mut PacketState<A>,
    ends: &Ends<A>,
    client_port: u16,
) -> Result<u16, Outcome> {
    let port = Port::new(client_port);
    let http = Port::new(80);
    state.headers.tuple = Tuple::new(ends.client, port, ends.node, http, Protocol::TCP);
    state.entry = ConntrackEntry {
        rewritten: Tuple::new(ends.node, port, ends.backend, http, Protocol::TCP),
        backend: BackendId(1),
        flags: ConntrackEntry::<A>::SNAT,
        ..ConntrackEntry::empty()
    };
    allocate_snat_port(world, state)?;
    Ok(state.entry.rewritten.source_port.number())
}

/// Begins flows from `first` on until `count` have begun in all, in hundredths of all ports; each must get
/// a port of its own.
#[track_caller]
fn begin_all<A: InMemory>(
    world: &Memory<Tables>,
    state: &mut PacketState<A>,
    ends: &Ends<A>,
    [first, last]: [u32; 2],
) {
    let [first, last] = [first, last].map(|part| (PORTS.ports() * part / 100) as u16);
    let mut taken = BTreeSet::new();
    for client_port in first..last {
        match begin(world, state, ends, client_port) {
            Ok(port) => assert!(taken.insert(port), "port {port} for two flows"),
            Err(outcome) => panic!("flow {client_port} of {last}: {}", outcome.name()),
        }
    }
}

fn lose_hints(world: &Memory<Tables>) {
    world.port_hints.borrow_mut().clear();
    world.full_rows.borrow_mut().clear();
}

fn set_all_hints(world: &Memory<Tables>) {
    let mut hints = world.port_hints.borrow_mut();
    hints.extend((0..HINT_ROWS).map(|row| (row, [u64::MAX; WORDS as usize])));
}

#[test]
fn each_port_is_found_by_hints_to_the_last_hundredth_and_at_last_that_one() {
    let (world, mut scratch) = (world(), Scratch::new());
    begin_all(&world, &mut scratch.v4, &V4_ENDS, [0, 99]);
    let rest = PORTS.ports() - PORTS.ports() * 99 / 100;
    let mut waiting: Vec<u16> = (40_000..40_000 + rest as u16).collect();
    for _ in 0..10 {
        waiting.retain(|port| begin(&world, &mut scratch.v4, &V4_ENDS, *port).is_err());
    }
    assert!(waiting.is_empty(), "{} of {rest} flows have no port", waiting.len());
    let crowded = begin(&world, &mut scratch.v4, &V4_ENDS, 60_000);
    assert_eq!(crowded, Err(Outcome::DroppedNoSnatPort));
}

#[test]
fn hints_that_are_lost_fail_no_flow() {
    let (world, mut scratch) = (world(), Scratch::new());
    begin_all(&world, &mut scratch.v4, &V4_ENDS, [0, 50]);
    begin_all(&world, &mut scratch.v6, &V6_ENDS, [0, 50]);
    for part in (50..65).step_by(5) {
        lose_hints(&world);
        begin_all(&world, &mut scratch.v4, &V4_ENDS, [part, part + 5]);
        begin_all(&world, &mut scratch.v6, &V6_ENDS, [part, part + 5]);
    }
}

#[test]
fn hints_of_flows_that_are_gone_fail_no_flow() {
    let (world, mut scratch) = (world(), Scratch::new());
    set_all_hints(&world);
    begin_all(&world, &mut scratch.v4, &V4_ENDS, [0, 65]);
    begin_all(&world, &mut scratch.v6, &V6_ENDS, [0, 65]);
}

#[test]
fn a_packet_sent_again_later_finds_what_was_missed() {
    let (world, mut scratch) = (world(), Scratch::new());
    begin_all(&world, &mut scratch.v6, &V6_ENDS, [0, 99]);
    set_all_hints(&world);
    let mut waiting: Vec<u16> = (40_000..40_050).collect();
    for second in 0..100 {
        world.now.set(Ticks(second));
        waiting.retain(|port| begin(&world, &mut scratch.v6, &V6_ENDS, *port).is_err());
    }
    assert!(waiting.is_empty(), "{} flows have no port", waiting.len());
}

#[test]
fn a_port_that_a_socket_has_is_passed_over() {
    let (mut world, mut scratch) = (world(), Scratch::new());
    let first = begin(&world, &mut scratch.v4, &V4_ENDS, 40_000).expect("ports are free");
    let reply = scratch.v4.entry.other_key();
    Conntrack::<V4>::remove(&world, Table::HalfOpen, &reply);
    lose_hints(&world);
    world.v4.sockets.insert(reply);
    let second = begin(&world, &mut scratch.v4, &V4_ENDS, 40_000).expect("ports are free");
    assert_ne!(first, second);
}

/// Programs of another release may know the flow that is over still, and would take replies for its own.
#[test]
fn a_port_of_a_flow_that_is_over_is_taken_last() {
    let (world, mut scratch) = (world(), Scratch::new());
    let first = begin(&world, &mut scratch.v4, &V4_ENDS, 40_000).expect("ports are free");
    let (reply, mut over) = (scratch.v4.reply_tuple, scratch.v4.reply_entry);
    over.state = State::FIN_CLIENT.with(State::FIN_BACKEND);
    Conntrack::<V4>::remove(&world, Table::HalfOpen, &reply);
    let inserted = Conntrack::<V4>::insert(&world, Table::Established, &reply, &over);
    assert!(inserted.is_ok());
    lose_hints(&world);
    let second = begin(&world, &mut scratch.v4, &V4_ENDS, 40_000).expect("ports are free");
    assert_ne!(first, second);
}
