//! Rows that the agent writes.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use aya::maps::MapData;
use bytemuck::Pod;
use lb_common::maps::Map;

use super::{Conversion, unknown};
use crate::host::syscall::{Sizes, for_each_raw};
use crate::pins::Layout;

/// Every entry of `data`, which is `map` as `layout` has it. Fields of a value that it does not know are zero.
///
/// # Errors
/// The kernel's, or the layout does not say what a key is.
pub fn rows<K: Pod, V: Pod>(data: &MapData, map: &Map, layout: &Layout) -> io::Result<Vec<(K, V)>> {
    let theirs = layout.rows(map.name).ok_or_else(|| unknown("what the map looks like"))?;
    let (key, missing) = Conversion::new(&theirs.key, map.key, size_of::<K>());
    if let Some(name) = missing.first() {
        return Err(unknown(&format!("where `{name}` is")));
    }
    let (value, _) = Conversion::new(&theirs.value, map.value, size_of::<V>());
    let info = data.info().map_err(io::Error::other)?;
    let sizes = Sizes { key: info.key_size() as usize, value: info.value_size() as usize };
    let (mut rows, mut too_wide) = (Vec::new(), 0);
    for_each_raw(data.fd().as_fd(), sizes, |theirs_key, theirs_value| {
        match key.of(theirs_key, 0).zip(value.of(theirs_value, 0)) {
            Some((key, value)) => rows
                .push((bytemuck::pod_read_unaligned(&key), bytemuck::pod_read_unaligned(&value))),
            None => too_wide += 1,
        }
        ControlFlow::Continue(())
    })?;
    if too_wide > 0 {
        return Err(io::Error::other(format!(
            "{too_wide} of its rows hold a number that this release has no room for: go on with the release before"
        )));
    }
    Ok(rows)
}
