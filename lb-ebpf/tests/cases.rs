//! Every packet case, in memory.

use lb_common::outcome::Disposition;
use lb_ebpf::cases::{self, Case, Program, Step, frame};
use lb_ebpf::hook::{Verdict, WalkResult};
use lb_ebpf::in_memory::{Rows, World};
use lb_ebpf::walk::{self, Scratch};

/// Interface index of the network device.
const DEVICE: u32 = 7;

fn walk(world: &World<Rows>, program: Program, bytes: &mut Vec<u8>) -> WalkResult {
    world.resolves.set(program != Program::NetworkXdp);
    walk::walk(bytes, world, program.hook(), &mut Scratch::new())
}

fn run(case: &Case) {
    let mut world = case.world(DEVICE);
    for (number, step) in case.steps.iter().enumerate() {
        let at = format!("{} ({}, {}), step {number}", case.sentence, case.family, case.protocol);
        match step {
            Step::Packet { program, frame: before, outcome, verdict, leaves } => {
                let mut after = before.clone();
                let result = walk(&world, *program, &mut after);
                assert_eq!(result, WalkResult { outcome: *outcome, verdict: *verdict }, "{at}");
                verify(&at, before, &after, result, *leaves);
            }
            Step::Becomes { program, frame, outcome, verdict, becomes } => {
                let mut after = frame.clone();
                let result = walk(&world, *program, &mut after);
                assert_eq!(result, WalkResult { outcome: *outcome, verdict: *verdict }, "{at}");
                assert_eq!(after, *becomes, "{at}");
            }
            Step::IcmpError { program, frame: before, outcome, message } => {
                let mut after = before.clone();
                let result = walk(&world, *program, &mut after);
                assert_eq!(result, (*outcome).into(), "{at}");
                frame::check(&after).unwrap_or_else(|wrong| panic!("{at}: {wrong}"));
                let (said, quote) = frame::icmp_message(&after).expect("an ICMP error");
                assert_eq!(said, *message, "{at}");
                assert_eq!(quote, &before[14..before.len().min(14 + 512)], "{at}");
            }
            Step::Released(count) => {
                assert_eq!(world.released.borrow_mut().drain(..).count(), *count, "{at}");
            }
            Step::IcmpLimit(more) => world.icmp_left.set(*more),
            Step::Retire(pod) => world.tables.retire(*pod as u32),
            Step::Evict(from, to) => case.evict(&world, *from, *to),
        }
    }
}

fn verify(
    at: &str,
    before: &[u8],
    after: &[u8],
    result: WalkResult,
    leaves: Option<(std::net::SocketAddr, std::net::SocketAddr)>,
) {
    match result.outcome.disposition() {
        Disposition::Translated => {
            assert_eq!(frame::ends(after), leaves, "{at}");
            frame::check(after).unwrap_or_else(|wrong| panic!("{at}: {wrong}"));
            let routed = matches!(result.verdict, Verdict::Redirect(_) | Verdict::RedirectNeigh(_));
            assert_eq!(frame::hop_limit(after), frame::HOP_LIMIT - u8::from(routed), "{at}");
            assert!(after.ends_with(b"a payload of an odd length."), "{at}");
        }
        Disposition::Passed
        | Disposition::IcmpReplied
        | Disposition::Queued
        | Disposition::Dropped => {
            assert_eq!(before, after, "{at}: changed")
        }
    }
}

#[test]
fn every_case_holds_in_memory() {
    let cases = cases::all(DEVICE);
    assert!(cases.len() > 100, "{} cases", cases.len());
    for case in &cases {
        run(case);
    }
}
