//! Tests of the search for a source port.

use lb_common::address::{Protocol, Tuple, V4};
use lb_common::snat::TIERS;

use super::*;
use crate::in_memory::{Rows, World as InMemory};
use crate::packet_state::Scratch;
use crate::world::Conntrack;

/// A row of odd ports and one of even ones: 1024 ports.
const TIER: snat::Rows = snat::Rows::of_spans(20, 20);

fn world(tiers: [snat::Rows; TIERS]) -> InMemory<Rows> {
    InMemory::new(Rows { snat_tiers: tiers, ..Rows::default() })
}

/// A flow of one client port to the one backend, from the one address of the node.
fn flow(client_port: u16) -> PacketState<V4> {
    let (client, backend) = (V4([198, 51, 100, 9]), V4([10, 244, 2, 6]));
    let mut state = Scratch::new().v4;
    let port = Port::new(client_port);
    state.headers.tuple =
        Tuple::new(client, port, V4([10, 96, 0, 1]), Port::new(80), Protocol::TCP);
    state.entry.rewritten =
        Tuple::new(V4([192, 0, 2, 1]), port, backend, Port::new(8080), Protocol::TCP);
    state
}

/// The first port that a search finds.
fn search(world: &InMemory<Rows>, client_port: u16) -> Option<u16> {
    let mut state = flow(client_port);
    begin_search(&mut state);
    // A row is known to be full once a search has come by it.
    let mut port = || port_by_hints(&mut state, world).map(Port::number);
    port().or_else(&mut port).or_else(port)
}

#[test]
fn every_port_is_taken_once_before_any_is_taken_again() {
    let world = world([TIER; TIERS]);
    let mut taken: Vec<u16> =
        (0..1024).filter_map(|client_port| search(&world, client_port)).collect();
    taken.sort_unstable();
    assert_eq!(taken, (20_480..21_504).collect::<Vec<u16>>());
    assert_eq!(search(&world, 5000), None, "all are thought to be in use");
}

#[test]
fn the_one_port_that_is_free_is_found_from_everywhere() {
    for free in [20_480, 20_991, 21_000, 21_503] {
        for client_port in (1..20_000).step_by(501) {
            let world = world([TIER; TIERS]);
            for port in (20_480..21_504).filter(|port| *port != free) {
                let entry = flow(0).entry.rewritten;
                let group = snat::group(
                    &entry.destination,
                    entry.destination_port,
                    entry.protocol,
                    &entry.source,
                );
                let (row, word, bit) = snat::place(Port::new(port));
                Conntrack::<V4>::set_port_hint(&world, snat::hint_row(group, row), word, 1 << bit);
            }
            assert_eq!(search(&world, client_port), Some(free));
        }
    }
}

#[test]
fn tiers_are_taken_one_after_the_other() {
    let few = snat::Rows { even: 0, ..snat::Rows::of_spans(30, 30) };
    let odd = snat::Rows { even: 0, ..TIER };
    let world = world([few, odd, TIER]);
    let taken: Vec<u16> = (0..3 * 512).filter_map(|port| search(&world, port)).collect();
    let (first, rest) = taken.split_at(512);
    let (second, third) = rest.split_at(512);
    assert!(first.iter().all(|port| (30_720..31_744).contains(port)));
    assert!(second.iter().all(|port| port % 2 == 1) && third.iter().all(|port| port % 2 == 0));
}

#[test]
fn without_ports_there_is_none() {
    assert_eq!(search(&world([snat::Rows::default(); TIERS]), 1), None);
}

#[test]
fn flows_of_one_backend_spread_over_all_ports() {
    const SLOTS: u32 = 1009;
    let mut times = [0u32; snat::ROWS as usize];
    let hashes = (0u32..1 << 22).map(|i| i.wrapping_mul(0x85eb_ca6b));
    for hash in hashes.filter(|hash| hash::reduce(*hash, SLOTS) == 7) {
        let port = port_of_hash(&snat::Rows::of_spans(0, 63), hash, 0);
        times[snat::place(port).0 as usize] += 1;
    }
    let total: u32 = times.iter().sum();
    let fair = total / snat::ROWS;
    assert!(times.iter().all(|n| (fair / 2..=fair * 2).contains(n)), "{times:?}");
}
