//! Entries of flows, which the programs of the other release may change meanwhile.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::MapData;
use lb_common::address::Tuple;
use lb_common::conntrack::ConntrackEntry;
use lb_common::conntrack::table::{self, Phase, Slices, Stored, words};
use lb_common::maps::Map;

use super::{Conversion, bits, unknown};
use crate::host::syscall::Mapped;
use crate::maps::conntrack_gc::now;
use crate::maps::error::MapError;
use crate::pins::{Layout, Pins, value_fields};

/// How often a bucket is read until two readings are the same.
const READINGS: usize = 64;

/// Calls `visit` with every entry of the table `map` of `pins`, whatever their layout; returns how many this build has no
/// room for, as a field is narrower than there.
///
/// # Errors
/// The kernel's, or the layout does not say enough.
pub fn for_each_flow<A: Stored>(
    pins: &Pins,
    map: &'static Map,
    visit: impl FnMut(Tuple<A>, ConntrackEntry<A>),
) -> Result<u64, MapError> {
    let failed = |error| MapError::new(map, "read", error);
    let own;
    let layout = if let Some(layout) = pins.other_layout() {
        layout
    } else {
        let parsed = Layout::parse(&Layout::own_text());
        own = parsed.map_err(|error| failed(io::Error::other(error)))?;
        &own
    };
    read(pins, map, layout, visit).map_err(failed)
}

fn read<A: Stored>(
    pins: &Pins,
    map: &'static Map,
    layout: &Layout,
    mut visit: impl FnMut(Tuple<A>, ConntrackEntry<A>),
) -> io::Result<u64> {
    let rows = layout.rows(map.name).ok_or_else(|| unknown("what the map looks like"))?;
    let size = size_of::<A::Bucket>();
    let (_, fields) = value_fields(map);
    let (conversion, missing) = Conversion::new(&rows.value, fields.into_iter().flatten(), size);
    if let Some(name) = missing.first() {
        return Err(unknown(&format!("where `{name}` is")));
    }
    let phase = rows.value.get("phase").ok_or_else(|| unknown("where `phase` is"))?;
    let data = MapData::from_pin(pins.map(map)).map_err(io::Error::other)?;
    let info = data.info().map_err(io::Error::other)?;
    let length = (info.value_size() as usize).div_ceil(size_of::<u64>());
    let mapped = Mapped::new(data.fd().as_fd(), length * info.max_entries() as usize)?;
    let mut too_wide = 0;
    for bucket in mapped.words().chunks_exact(length) {
        let bucket = reading(bucket);
        let bucket = bytemuck::cast_slice(&bucket);
        for place in 0..rows.places {
            let phase = bits(bucket, phase.bit + place * phase.stride, phase.bits);
            if phase != Some(Phase::Live as u64) {
                continue;
            }
            let Some(converted) = conversion.of(bucket, place) else {
                too_wide += 1;
                continue;
            };
            let words_of_it = converted.chunks_exact(size_of::<u64>());
            let own: Vec<AtomicU64> = words_of_it
                .map(|word| AtomicU64::new(bytemuck::pod_read_unaligned(word)))
                .collect();
            let Ok(()) = table::for_each::<A, _, Infallible>(
                Slices::new(&own, words::<A>()),
                now,
                |tuple, entry| {
                    visit(tuple, entry);
                    Ok(())
                },
            );
        }
    }
    Ok(too_wide)
}

/// What a bucket holds. One that a program is changing is read again: entries are written word by word.
fn reading(bucket: &[AtomicU64]) -> Vec<u64> {
    let read = || bucket.iter().map(|word| word.load(Ordering::Acquire)).collect::<Vec<_>>();
    let mut last = read();
    for _ in 0..READINGS {
        let again = read();
        if again == last {
            break;
        }
        last = again;
    }
    last
}
