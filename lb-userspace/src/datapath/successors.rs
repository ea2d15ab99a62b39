//! The programs to which those of another release hand packets over.

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError, ProgramArray};
use lb_common::maps::{self, Successor};

use super::load_error::LoadError;
use super::loader::{Object, loaded};
use super::programs::Program;
use crate::pins::Pins;

/// Has the programs of the release that works on `before` hand packets over to those of `object`, once `HANDOVER` says so.
///
/// # Errors
/// [`LoadError`]; those before do as they did.
pub fn set(object: &mut Object, before: &Pins) -> Result<(), LoadError> {
    for successor in Successor::ALL {
        object.require(Program::of_successor(successor))?;
    }
    let refused =
        |error: MapError| LoadError::Maps(format!("SUCCESSORS cannot be written: {error}"));
    let data = MapData::from_pin(before.map(&maps::SUCCESSORS)).map_err(refused)?;
    let mut array = ProgramArray::try_from(Map::ProgramArray(data)).map_err(refused)?;
    for successor in Successor::ALL {
        set_one(&mut object.ebpf, &mut array, successor)?;
    }
    Ok(())
}

fn set_one(
    ebpf: &mut Ebpf,
    array: &mut ProgramArray<MapData>,
    successor: Successor,
) -> Result<(), LoadError> {
    let program = Program::of_successor(successor);
    let found = loaded(ebpf, program).ok_or_else(|| LoadError::no_program(program.name()))?;
    let fd = found.fd().map_err(|error| LoadError::program(program.name(), &error))?;
    array
        .set(successor as u32, fd, 0)
        .map_err(|error| LoadError::Maps(format!("SUCCESSORS cannot be written: {error}")))
}
