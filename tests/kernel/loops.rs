//! Loops of the programs that older kernels refuse: those whose last instruction is no jump, but falls through into
//! their first one. The compiler makes such a loop where it enters it in the middle.

use anyhow::{Result, ensure};
use lb_userspace::datapath::loader;

use crate::stack::{INSTRUCTION, functions};

/// Classes of jumps, with operands of 64 and of 32 bits.
const JUMP: [u8; 2] = [5, 6];
/// Always, among jumps.
const ALWAYS: u8 = 0;
const CALL: u8 = 8;
const EXIT: u8 = 9;
/// A load of 64 bits, which takes the place of two instructions.
const LOAD_64: u8 = 0x18;

/// `check_cfg`, kernel/bpf/verifier.c, follows all ways before it looks at any instruction. Linux 6.1 reports
/// "back-edge" there for a fall-through that leads back to where a way comes from; later kernels allow it.
#[test]
fn no_loop_falls_through_into_its_beginning() -> Result<()> {
    for (name, code) in functions(&loader::bytes()?)? {
        let found = falls_back(&code);
        ensure!(found.is_none(), "{name}: falls through into the beginning of a loop: {found:?}");
    }
    Ok(())
}

/// The ways on from an instruction, each with whether it is a jump's.
fn ways(code: &[u8], at: usize) -> Vec<(usize, bool)> {
    let Some(instruction) = code.chunks_exact(INSTRUCTION).nth(at) else { return Vec::new() };
    let &[opcode, _, low, high, a, b, c, d] = instruction else { return Vec::new() };
    let length = if opcode == LOAD_64 { 2 } else { 1 };
    let (class, kind) = (opcode & 7, opcode >> 4);
    let near = i32::from(i16::from_le_bytes([low, high]));
    let far = i32::from_le_bytes([a, b, c, d]);
    let to = |offset: i32| (at + 1).wrapping_add_signed(offset as isize);
    match (JUMP.contains(&class), kind) {
        (true, EXIT) => Vec::new(),
        (true, ALWAYS) if class == JUMP[1] => vec![(to(far), true)],
        (true, ALWAYS) => vec![(to(near), true)],
        (true, CALL) | (false, _) => vec![(at + length, false)],
        (true, _) => vec![(at + 1, true), (to(near), true)],
    }
}

/// An instruction that falls through into one that its own way came from.
fn falls_back(code: &[u8]) -> Option<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        Not,
        OnTheWay,
        Done,
    }
    let mut seen = vec![Seen::Not; code.len() / INSTRUCTION];
    let mut way = vec![(0, ways(code, 0))];
    seen[0] = Seen::OnTheWay;
    while let Some((at, rest)) = way.last_mut() {
        let at = *at;
        if rest.is_empty() {
            seen[at] = Seen::Done;
            way.pop();
            continue;
        }
        let (next, is_jump) = rest.remove(0);
        match seen.get(next) {
            Some(Seen::OnTheWay) if !is_jump => return Some(at),
            Some(Seen::Not) => {
                seen[next] = Seen::OnTheWay;
                way.push((next, ways(code, next)));
            }
            _ => {}
        }
    }
    None
}

#[test]
fn such_a_loop_is_found() {
    let instruction = |opcode: u8, offset: i16| {
        let [low, high] = offset.to_le_bytes();
        [opcode, 0, low, high, 0, 0, 0, 0]
    };
    let (jump, add, if_equal, exit) = (0x05, 0x07, 0x15, 0x95);
    // Into the loop behind its first instruction, and out of it; the last one falls into the first.
    let entered_in_the_middle = [
        instruction(jump, 1),
        instruction(add, 0),
        instruction(if_equal, 1),
        instruction(jump, -3),
        instruction(exit, 0),
    ];
    assert_eq!(falls_back(&entered_in_the_middle.concat()), Some(1));
    let entered_at_the_top = [
        instruction(add, 0),
        instruction(if_equal, 1),
        instruction(jump, -3),
        instruction(exit, 0),
    ];
    assert_eq!(falls_back(&entered_at_the_top.concat()), None);
}
