//! Every packet case, in memory.

use lb_common::outcome::Ending;
use lb_ebpf::balance::{Flows, Onward, Walked, balance};
use lb_ebpf::cases::{Case, Program, Step, frame, list};
use lb_ebpf::memory::{Rows, World};

/// Interface index of the network device.
const DEVICE: u32 = 7;

fn walk(world: &World<Rows>, program: Program, bytes: &mut Vec<u8>) -> Walked {
    world.resolves.set(program != Program::NetworkXdp);
    balance(bytes, world, program.hook(), &mut Flows::new())
}

fn run(case: &Case) {
    let mut world = case.world(DEVICE);
    for (number, step) in case.steps.iter().enumerate() {
        let place =
            format!("{} ({}, {}), step {number}", case.sentence, case.family, case.protocol);
        match step {
            Step::Packet { program, frame: before, outcome, onward, leaves } => {
                let mut after = before.clone();
                let walked = walk(&world, *program, &mut after);
                assert_eq!(walked, Walked { outcome: *outcome, onward: *onward }, "{place}");
                verify(&place, before, &after, walked, *leaves);
            }
            Step::Becomes { program, frame, outcome, onward, becomes } => {
                let mut after = frame.clone();
                let walked = walk(&world, *program, &mut after);
                assert_eq!(walked, Walked { outcome: *outcome, onward: *onward }, "{place}");
                assert_eq!(after, *becomes, "{place}");
            }
            Step::Tells { program, frame: before, outcome, told } => {
                let mut after = before.clone();
                let walked = walk(&world, *program, &mut after);
                assert_eq!(walked, (*outcome).into(), "{place}");
                frame::check(&after).unwrap_or_else(|wrong| panic!("{place}: {wrong}"));
                let (said, quote) = frame::told(&after).expect("an ICMP error");
                assert_eq!(said, *told, "{place}");
                assert_eq!(quote, &before[14..before.len().min(14 + 512)], "{place}");
            }
            Step::Released(count) => {
                assert_eq!(world.released.borrow_mut().drain(..).count(), *count, "{place}");
            }
            Step::Answers(more) => world.answers.set(*more),
            Step::Retire(pod) => world.tables.retire(*pod as u32),
            Step::Evict(from, to) => case.evict(&world, *from, *to),
        }
    }
}

fn verify(
    place: &str,
    before: &[u8],
    after: &[u8],
    walked: Walked,
    leaves: Option<(std::net::SocketAddr, std::net::SocketAddr)>,
) {
    match walked.outcome.ending() {
        Ending::Translated => {
            assert_eq!(frame::ends(after), leaves, "{place}");
            frame::check(after).unwrap_or_else(|wrong| panic!("{place}: {wrong}"));
            let routed = matches!(walked.onward, Onward::Out(_) | Onward::Resolve(_));
            assert_eq!(frame::hops(after), frame::HOPS - u8::from(routed), "{place}");
            assert!(after.ends_with(b"a payload of an odd length."), "{place}");
        }
        Ending::Passed | Ending::Answered | Ending::Held | Ending::Dropped => {
            assert_eq!(before, after, "{place}: changed")
        }
    }
}

#[test]
fn every_case_holds_in_memory() {
    let cases = list::all(DEVICE);
    assert!(cases.len() > 100, "{} cases", cases.len());
    for case in &cases {
        run(case);
    }
}
