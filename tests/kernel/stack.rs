//! How much of the BPF stack each function of the object uses, read from its instructions: the
//! farthest that any of them reaches below the frame pointer, as the verifier counts it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use object::{
    Object, ObjectSection, ObjectSymbol, Relocation, RelocationTarget, SectionKind, SymbolKind,
};

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

/// A function, how deep the calls from it go, in bytes, and that chain of calls.
pub type Chain = (u32, Vec<String>);

/// The deepest chain of calls from each function, as `check_max_stack_depth` (kernel/bpf/verifier.c) counts it on kernels
/// such as 6.1: each frame in steps of 32 bytes, at least one.
pub fn deepest_chains(bytes: &[u8]) -> Result<BTreeMap<String, Chain>> {
    let elf = object::File::parse(bytes)?;
    let (depths, places) = (by_function(bytes)?, places(&elf)?);
    let mut calls: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (section, from, to) in all_calls(&elf)? {
        let caller = function_at(&places, section, from).context("a call outside of functions")?;
        let (section, to) = to;
        let callee = function_at(&places, section, to).context("a call of no function")?;
        calls.entry(caller).or_default().push(callee);
    }
    let mut chains = BTreeMap::new();
    for name in depths.keys() {
        chain(name, &depths, &calls, &mut chains);
    }
    Ok(chains)
}

fn chain(
    name: &str,
    depths: &BTreeMap<String, u32>,
    calls: &BTreeMap<&str, Vec<&str>>,
    chains: &mut BTreeMap<String, Chain>,
) -> Chain {
    const STEP: u32 = 32;
    if let Some(known) = chains.get(name) {
        return known.clone();
    }
    let callees = calls.get(name).into_iter().flatten();
    let deepest = callees.map(|callee| chain(callee, depths, calls, chains)).max();
    let (below, names) = deepest.unwrap_or_default();
    let own = depths.get(name).copied().unwrap_or(0).max(1).next_multiple_of(STEP);
    let names = std::iter::once(format!("{name} ({own})")).chain(names).collect();
    chains.insert(name.to_owned(), (own + below, names));
    (own + below, chains[name].1.clone())
}

/// A place in a section, by that one's index.
type At = (usize, u64);

/// Where each function begins and ends.
fn places(elf: &object::File<'_>) -> Result<Vec<(String, usize, u64, u64)>> {
    let mut places = Vec::new();
    for symbol in elf.symbols() {
        if symbol.kind() == SymbolKind::Text && symbol.size() != 0 {
            let section = symbol.section_index().context("a function without a section")?.0;
            let (name, start) = (symbol.name()?.to_owned(), symbol.address());
            places.push((name, section, start, start + symbol.size()));
        }
    }
    Ok(places)
}

fn function_at(places: &[(String, usize, u64, u64)], section: usize, at: u64) -> Option<&str> {
    let found =
        places.iter().find(|(_, of, start, end)| *of == section && (*start..*end).contains(&at));
    found.map(|(name, ..)| name.as_str())
}

/// Every call of a function of the object: the section, where the call is, and what it calls.
fn all_calls(elf: &object::File<'_>) -> Result<Vec<(usize, u64, At)>> {
    /// A call, whose source register tells functions of the object from helpers.
    const CALL: u8 = 0x85;
    const OF_OBJECT: u8 = 1;
    let mut calls = Vec::new();
    for section in elf.sections().filter(|section| section.kind() == SectionKind::Text) {
        let index = section.index().0;
        let relocations: BTreeMap<u64, Relocation> = section.relocations().collect();
        for (at, instruction) in
            (0..).step_by(INSTRUCTION).zip(section.data()?.chunks_exact(INSTRUCTION))
        {
            let &[opcode, registers, _, _, a, b, c, d] = instruction else { continue };
            if opcode != CALL || registers >> 4 != OF_OBJECT {
                continue;
            }
            // In instructions, from the one behind the call.
            let distance = (i64::from(i32::from_le_bytes([a, b, c, d])) + 1) * INSTRUCTION as i64;
            let to = match relocations.get(&at).map(Relocation::target) {
                Some(RelocationTarget::Symbol(symbol)) => {
                    let symbol = elf.symbol_by_index(symbol)?;
                    let section = symbol.section_index().context("a call of no section")?.0;
                    (section, symbol.address().wrapping_add_signed(distance))
                }
                _ => (index, at.wrapping_add_signed(distance)),
            };
            calls.push((index, at, to));
        }
    }
    Ok(calls)
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
