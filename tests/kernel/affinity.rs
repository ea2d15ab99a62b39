//! Session affinity in a map that is full: what is known of a client is refreshed at no other's cost.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use lb_common::address::{Family, Protocol, V4};
use lb_common::affinity::{Affinity, Client};
use lb_common::maps;
use lb_common::outcome::Outcome;
use lb_ebpf::cases::Program;
use lb_ebpf::cases::frame::{self, Kind};
use lb_ebpf::cases::topology::{self, Target, Topology};
use lb_userspace::maps::conntrack_gc::now;
use weir_tests::kernel::{Programs, in_own_namespace};
use weir_tests::processor::stay_on_cpu;
use weir_tests::wait::until;

use crate::testbed;

/// Room for clients, and twice as many of them.
const CAPACITY: u32 = 1024;
const CLIENTS: u32 = 2 * CAPACITY;

/// A port for a client's first connection, and one for its second.
const PORTS: [u16; 2] = [40_000, 40_001];

#[test]
fn a_full_map_whose_clients_are_refreshed_keeps_all_of_them() -> Result<()> {
    in_own_namespace(|| {
        let device = testbed::build()?.device;
        let mut rows = topology::rows();
        rows.v4.frontends.values_mut().for_each(|row| row.affinity = 10_000);
        let mut programs = testbed::load(&rows, device, |_| CAPACITY)?;
        let first = Ipv4Addr::new(10, 245, 0, 0);
        for number in 0..CLIENTS {
            let client = Ipv4Addr::from_bits(first.to_bits() + number);
            connect(&mut programs, device, SocketAddr::from((client, PORTS[0])))?;
        }
        let before = clients(&mut programs)?;
        ensure!(before.len() >= CAPACITY as usize / 2, "{} clients are known", before.len());
        let begun = now();
        until("a tick passes, or nothing is refreshed", Duration::from_secs(5), || {
            ensure!(now().since(begun) > 0, "it is still {begun:?}");
            Ok(())
        })?;
        for client in &before {
            let V4(address) = client.address;
            connect(&mut programs, device, SocketAddr::from((address, PORTS[1])))?;
        }
        let after = clients(&mut programs)?;
        let lost = before.difference(&after).count();
        ensure!(lost == 0, "{lost} of {} clients are not known any more", before.len());
        Ok(())
    })
}

/// Before Linux 6.16 a processor takes up to 128 entries of a map for itself.
#[test]
fn entries_that_one_processor_has_taken_in_advance_are_not_missed_by_another() -> Result<()> {
    const CAPACITY: u32 = 256;
    const CLIENTS: u32 = 250;
    in_own_namespace(|| {
        let device = testbed::build()?.device;
        let mut rows = topology::rows();
        rows.v4.frontends.values_mut().for_each(|row| row.affinity = 10_000);
        let mut programs = testbed::load(&rows, device, |_| CAPACITY)?;
        let first = Ipv4Addr::new(10, 245, 0, 0);
        for number in 0..CLIENTS {
            // One client on a processor, all others on another.
            thread::scope(|scope| {
                let connecting = scope.spawn(|| {
                    stay_on_cpu(number.min(1) as usize)?;
                    let client = Ipv4Addr::from_bits(first.to_bits() + number);
                    connect(&mut programs, device, SocketAddr::from((client, PORTS[0])))
                });
                connecting.join().map_err(|_| anyhow!("the thread of client {number} panicked"))?
            })?;
        }
        let known = clients(&mut programs)?.len();
        ensure!(known == CLIENTS as usize, "{known} of {CLIENTS} clients are known");
        Ok(())
    })
}

fn connect(programs: &mut Programs, device: u32, client: SocketAddr) -> Result<()> {
    let to = Topology { family: Family::V4 }.frontend(Target::Local);
    let syn = frame::frame(client, to, Protocol::TCP, Kind::Open, &[]);
    let outcome = programs.test_run(Program::FromPod, device, &syn)?.outcome;
    ensure!(outcome == Outcome::Forwarded, "{client}: {}", outcome.name());
    Ok(())
}

fn clients(programs: &mut Programs) -> Result<BTreeSet<Client<V4>>> {
    let keys = programs.keys::<Client<V4>, Affinity>(maps::AFFINITY.v4.name)?;
    Ok(keys.into_iter().collect())
}
