//! Reads the LRU maps that the eBPF programs write: session affinity and first fragments. The agent never
//! writes them; the kernel evicts the entries that were used least recently.

use std::collections::BTreeMap;

use bytemuck::Pod;
use lb_common::address::{V4, V6};
use lb_common::affinity::{Affinity, Client};
use lb_common::fragment::{FirstFragment, Fragmented};
use lb_common::maps::{self, Map};

use super::bpf_map::Table;
use super::error::MapError;
use crate::pins::Pins;

/// The session affinity maps of both families.
#[derive(Debug)]
pub struct KernelClients {
    v4: Table<Client<V4>, Affinity>,
    v6: Table<Client<V6>, Affinity>,
}

impl KernelClients {
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// One of them is missing, or of another version.
    pub fn open(pins: &Pins) -> Result<Self, MapError> {
        Ok(Self {
            v4: Table::open(pins, &maps::AFFINITY.v4)?,
            v6: Table::open(pins, &maps::AFFINITY.v6)?,
        })
    }

    /// Every IPv4 client with its backend.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn all_v4(&self) -> Result<Vec<(Client<V4>, Affinity)>, MapError> {
        self.v4.entries()
    }

    /// Every IPv6 client with its backend.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn all_v6(&self) -> Result<Vec<(Client<V6>, Affinity)>, MapError> {
        self.v6.entries()
    }

    /// The last backend of an IPv4 client; a look-up does not refresh the entry.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn v4(&self, client: &Client<V4>) -> Result<Option<Affinity>, MapError> {
        self.v4.get(client)
    }

    /// The last backend of an IPv6 client; a look-up does not refresh the entry.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn v6(&self, client: &Client<V6>) -> Result<Option<Affinity>, MapError> {
        self.v6.get(client)
    }
}

/// The number of entries of each map, by its name.
///
/// # Errors
/// A map is missing, or could not be read.
pub fn count(pins: &Pins) -> Result<BTreeMap<&'static str, u64>, MapError> {
    Ok(BTreeMap::from([
        entries::<Client<V4>, Affinity>(pins, &maps::AFFINITY.v4)?,
        entries::<Client<V6>, Affinity>(pins, &maps::AFFINITY.v6)?,
        entries::<Fragmented<V4>, FirstFragment>(pins, &maps::FRAGMENTS.v4)?,
        entries::<Fragmented<V6>, FirstFragment>(pins, &maps::FRAGMENTS.v6)?,
    ]))
}

fn entries<K: Pod, V: Pod>(
    pins: &Pins,
    map: &'static Map,
) -> Result<(&'static str, u64), MapError> {
    let mut entries = 0;
    Table::<K, V>::open(pins, map)?.for_each(|_, _| {
        entries += 1;
        Ok(())
    })?;
    Ok((map.name, entries))
}
