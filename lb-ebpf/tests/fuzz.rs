//! The packet fuzzer, in memory: whatever comes, no walk panics, none makes a right checksum wrong,
//! and what is not translated is left as it was. The kernel is given the same seeds by the agreement
//! tests.

use lb_common::outcome::Disposition;
use lb_ebpf::cases::topology::world_with_sockets;
use lb_ebpf::cases::{Program, frame, mutation};
use lb_ebpf::in_memory::{Rows, World};
use lb_ebpf::walk::{self, Scratch};
use proptest::prelude::*;

fn walk(world: &World<Rows>, program: Program, before: &[u8]) {
    let mut after = before.to_vec();
    world.resolves.set(program != Program::NetworkXdp);
    let result = walk::walk(&mut after, world, program.hook(), &mut Scratch::new());
    match result.outcome.disposition() {
        Disposition::Passed | Disposition::Queued | Disposition::Dropped => {
            assert_eq!(before, after, "{result:?}")
        }
        Disposition::IcmpReplied => {
            if frame::check(before).is_ok() {
                frame::check(&after).unwrap_or_else(|wrong| panic!("{result:?}: {wrong}"));
            }
        }
        Disposition::Translated => {
            assert_eq!(before.len(), after.len());
            if frame::check(before).is_ok() {
                frame::check(&after).unwrap_or_else(|wrong| panic!("{result:?}: {wrong}"));
            }
        }
    }
}

/// Packets that once broke a promise.
const FOUND: [u64; 2] = [
    // An error that quotes eight bytes of TCP, and a trailer where the checksum would stand.
    41_327_111_100,
    // SCTP in IPv6 whose own header says that there is no payload.
    104_130_312_434,
];

#[test]
fn packets_that_once_broke_a_promise_keep_it() {
    let world = world_with_sockets(7);
    for seed in FOUND {
        let mutation::Sent { program, frame } = mutation::of(seed);
        walk(&world, program, &frame);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn flows_of_arbitrary_packets_keep_every_promise(first in 0u64..1 << 40) {
        let world = world_with_sockets(7);
        for seed in first..first + 200 {
            let mutation::Sent { program, frame } = mutation::of(seed);
            walk(&world, program, &frame);
        }
    }

    #[test]
    fn noise_keeps_every_promise(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let world = world_with_sockets(7);
        for program in Program::ALL {
            walk(&world, program, &bytes);
        }
    }
}
