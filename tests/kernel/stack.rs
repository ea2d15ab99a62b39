//! How much of the BPF stack each function of the object uses, read from its instructions: the
//! farthest that any of them reaches below the frame pointer, as the verifier counts it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// Bytes of an instruction, Documentation/bpf/standardization/instruction-set.rst.
pub const INSTRUCTION: usize = 8;
/// The frame pointer.
const FRAME: u8 = 10;
/// `dst = src`, 64 bits.
const MOVE: u8 = 0xbf;
/// `dst += immediate`, 64 bits.
const ADD: u8 = 0x07;

/// Bytes of stack by function.
pub fn by_function(elf: &[u8]) -> Result<BTreeMap<String, u32>> {
    let depths = functions(elf)?.into_iter().map(|(name, code)| (name, depth(&code)));
    Ok(depths.collect())
}

/// The instructions of each function.
pub fn functions(elf: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let elf = object::File::parse(elf)?;
    let mut functions = BTreeMap::new();
    for symbol in elf.symbols() {
        if symbol.kind() != SymbolKind::Text || symbol.size() == 0 {
            continue;
        }
        let section = symbol.section_index().context("a function without a section")?;
        let section = elf.section_by_index(section)?;
        let start = usize::try_from(symbol.address() - section.address())?;
        let end = start + usize::try_from(symbol.size())?;
        let code = section.data()?.get(start..end).context("a function beyond its section")?;
        functions.insert(symbol.name()?.to_owned(), code.to_vec());
    }
    Ok(functions)
}

fn depth(code: &[u8]) -> u32 {
    let mut deepest = 0;
    // The register that was just made a copy of the frame pointer.
    let mut copy = None;
    for instruction in code.chunks_exact(INSTRUCTION) {
        let (opcode, registers) = (instruction[0], instruction[1]);
        let (destination, source) = (registers & 0xf, registers >> 4);
        let offset = i32::from(i16::from_le_bytes([instruction[2], instruction[3]]));
        let immediate =
            i32::from_le_bytes([instruction[4], instruction[5], instruction[6], instruction[7]]);
        let reached = match opcode & 7 {
            // Loads, and stores of immediates and registers.
            1 if source == FRAME => offset,
            2 | 3 if destination == FRAME => offset,
            _ if opcode == ADD && copy == Some(destination) => immediate,
            _ => 0,
        };
        deepest = deepest.min(reached);
        copy = (opcode == MOVE && source == FRAME).then_some(destination);
    }
    // The verifier counts in steps of eight.
    deepest.unsigned_abs().next_multiple_of(8)
}
