//! Every packet case, in memory.

use lb_ebpf::cases::{self, Case, Output, PAYLOAD, Program, Step, frame};
use lb_ebpf::hook::{Verdict, WalkResult};
use lb_ebpf::in_memory::{Rows, Segmented, World};
use lb_ebpf::walk::{self, Scratch};

/// Interface index of the network device.
const DEVICE: u32 = 7;

#[test]
fn every_case_holds_in_memory() {
    let cases = cases::all(DEVICE);
    assert!(cases.len() > 300, "{} cases", cases.len());
    for case in &cases {
        run(case);
    }
}

fn run(case: &Case) {
    let mut world = case.world(DEVICE);
    assert!(!case.steps.is_empty(), "{}: no steps", case.sentence);
    for (number, step) in case.steps.iter().enumerate() {
        let at = format!("{} ({}, {}), step {number}", case.sentence, case.family, case.protocol);
        match step {
            Step::Packet { program, frame, segment, result, output } => {
                let mut after = frame.clone();
                let packet = Segmented { frame: &mut after, segment: *segment };
                assert_eq!(walk(&world, *program, packet), *result, "{at}");
                verify(&at, frame, &after, result.verdict, output);
            }
            Step::Released(count) => {
                assert_eq!(world.released.borrow_mut().drain(..).count(), *count, "{at}");
            }
            Step::Allow(limit, times) => {
                world.allowed.borrow_mut().insert(*limit, *times);
            }
            Step::Retire(pod) => world.tables.retire(*pod as u32),
            Step::Evict(from, to) => case.evict(&world, *from, *to),
        }
    }
}

fn walk(world: &World<Rows>, program: Program, mut packet: Segmented<'_>) -> WalkResult {
    world.resolves.set(program != Program::NetworkXdp);
    walk::walk(&mut packet, world, program.hook(), &mut Scratch::new())
}

fn verify(at: &str, before: &[u8], after: &[u8], verdict: Verdict, output: &Output) {
    let check = || frame::check(after).unwrap_or_else(|wrong| panic!("{at}: {wrong}"));
    match output {
        Output::Unchanged => assert_eq!(before, after, "{at}: changed"),
        Output::Rewritten(from, to) => {
            assert_eq!(frame::ends(after), Some((*from, *to)), "{at}");
            check();
            let routed = matches!(verdict, Verdict::Redirect(_) | Verdict::RedirectNeigh(_));
            assert_eq!(frame::hop_limit(after), frame::HOP_LIMIT - u8::from(routed), "{at}");
            assert!(after.ends_with(PAYLOAD), "{at}");
        }
        Output::Bytes(bytes) => assert_eq!(after, bytes, "{at}"),
        Output::IcmpError(expected) => {
            check();
            let (message, quote) = frame::icmp_message(after).expect("an ICMP error");
            assert_eq!(message, *expected, "{at}");
            assert_eq!(quote, &before[14..before.len().min(14 + 512)], "{at}");
        }
    }
}
