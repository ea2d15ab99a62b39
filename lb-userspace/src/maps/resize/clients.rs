//! Clients with session affinity, which programs note with each flow that begins.

use bytemuck::Pod;
use lb_common::address::{Address, V4, V6};
use lb_common::affinity::{Affinity, Client};
use lb_common::maps;

use crate::maps::bpf_map::Table;
use crate::maps::error::MapError;
use crate::pins::Pins;

/// Copies the clients that `to` does not know, or that began a flow later as `from` knows. It is called before the
/// programs know `to`, and again when none knows `from` alone any more.
///
/// # Errors
/// A map could not be read or written.
pub fn copy_clients(from: &Pins, to: &Pins) -> Result<(), MapError> {
    copy::<V4>(from, to)?;
    copy::<V6>(from, to)
}

fn copy<A: Address>(from: &Pins, to: &Pins) -> Result<(), MapError>
where
    Client<A>: Pod,
{
    let map = maps::AFFINITY.of(A::FAMILY);
    let from = Table::<Client<A>, Affinity>::open(from, map)?;
    let to = Table::<Client<A>, Affinity>::open(to, map)?;
    from.for_each(|client, affinity| {
        let is_newer = |there: Affinity| affinity.last_used.since(there.last_used) > 0;
        if to.get(&client)?.is_none_or(is_newer) {
            to.set(client, affinity)?;
        }
        Ok(())
    })
}
