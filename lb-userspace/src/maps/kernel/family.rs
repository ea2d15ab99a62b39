//! The tables of one family.

use std::collections::BTreeMap;

use bytemuck::Pod;
use lb_common::address::Address;
use lb_common::backend::{Backend, BackendId, Traffic};
use lb_common::maps;
use lb_common::service::{Frontend, FrontendRow, IpPolicy};
use lb_common::source_range::SourceRange;

use crate::maps::FamilyContents;
use crate::maps::bpf_map::{CHUNK, PerCpuTable, Table};
use crate::maps::catalogue::with_family_maps;
use crate::maps::error::MapError;
use crate::maps::operation::FamilyOperation;
use crate::pins::Pins;

/// `u64`s in a row of `TRAFFIC_*`.
pub(super) const TRAFFIC_WORDS: usize = size_of::<Traffic>() / size_of::<u64>();

/// A row that says whether it is in use: an array has a value under every index.
pub(super) trait Row: Pod {
    fn is_in_use(&self) -> bool {
        true
    }
}

impl Row for FrontendRow {}
impl Row for IpPolicy {}
impl Row for u32 {}
impl<A: Address> Row for Backend<A>
where
    Self: Pod,
{
    fn is_in_use(&self) -> bool {
        self.generation != 0
    }
}

macro_rules! declare_tables {
    ($($(#[$doc:meta])* $operation:ident, $field:ident: $key:ty => $value:ty, $map:ident;)+) => {
        /// The maps of one family.
        pub(super) struct FamilyTables<A> {
            $($field: Table<$key, $value>,)+
            pub(super) traffic: PerCpuTable<TRAFFIC_WORDS>,
        }

        impl<A: Address> FamilyTables<A>
        where
            $($key: Pod + Ord, $value: Row,)+
        {
            pub(super) fn open(pins: &Pins) -> Result<Self, MapError> {
                Ok(Self {
                    $($field: Table::open(pins, maps::$map.of(A::FAMILY))?,)+
                    traffic: PerCpuTable::open(pins, maps::TRAFFIC.of(A::FAMILY))?,
                })
            }

            pub(super) fn read(&self) -> Result<FamilyContents<A>, MapError> {
                Ok(FamilyContents { $($field: read(&self.$field)?,)+ })
            }

            pub(super) fn apply(&mut self, operation: &FamilyOperation<A>) -> Result<(), MapError> {
                self.clear_traffic(operation)?;
                match operation {
                    $(FamilyOperation::$operation(key, value) => write(&self.$field, *key, *value),)+
                }
            }

            /// Applies those of `operations`, of which `first` is the first, that write to one map.
            pub(super) fn apply_first<'o>(
                &mut self,
                first: &FamilyOperation<A>,
                operations: impl Iterator<Item = &'o FamilyOperation<A>> + Clone,
            ) -> (usize, Result<(), MapError>) {
                match first {
                    $(FamilyOperation::$operation(_, Some(_)) => {
                        let row = |operation: &FamilyOperation<A>| {
                            let FamilyOperation::$operation(key, value) = operation else {
                                return None;
                            };
                            Some((*key, (*value)?))
                        };
                        let run = operations.take_while(|operation| row(operation).is_some());
                        let run = run.take(CHUNK);
                        if let Err(error) = run.clone().try_for_each(|one| self.clear_traffic(one)) {
                            return (0, Err(error));
                        }
                        write_all(&self.$field, run.filter_map(row))
                    })+
                    $(FamilyOperation::$operation(_, None) => single(self.apply(first)),)+
                }
            }

            /// The capacity of each map.
            pub(super) fn capacities(&self) -> impl Iterator<Item = (&'static str, u32)> + use<A> {
                [$(self.$field.capacity(),)+].into_iter()
            }
        }
    };
}

with_family_maps!(declare_tables);

/// Writes all rows by one call; returns how many of them.
pub(super) fn write_all<K: Pod, V: Pod>(
    table: &Table<K, V>,
    rows: impl Iterator<Item = (K, V)>,
) -> (usize, Result<(), MapError>) {
    let (keys, values): (Vec<K>, Vec<V>) = rows.unzip();
    table.set_first(&keys, &values)
}

pub(super) fn single(result: Result<(), MapError>) -> (usize, Result<(), MapError>) {
    (usize::from(result.is_ok()), result)
}

impl<A: Address> FamilyTables<A>
where
    Backend<A>: Pod,
{
    /// Sets the counters of a backend that the operation removes or replaces by another to zero: those of an unused
    /// id are.
    fn clear_traffic(&mut self, operation: &FamilyOperation<A>) -> Result<(), MapError> {
        let FamilyOperation::Backend(id, row) = operation else { return Ok(()) };
        let generation = row.map_or(0, |row| row.generation);
        let before = self.backends.get(id)?.map_or(0, |before| before.generation);
        if before != 0 && before != generation { self.traffic.clear(id.0) } else { Ok(()) }
    }
}

fn read<K: Pod + Ord, V: Row>(table: &Table<K, V>) -> Result<BTreeMap<K, V>, MapError> {
    Ok(table.entries()?.into_iter().filter(|(_, row)| row.is_in_use()).collect())
}

pub(super) fn write<K: Pod, V: Pod>(
    table: &Table<K, V>,
    key: K,
    value: Option<V>,
) -> Result<(), MapError> {
    match value {
        Some(value) => table.set(key, value),
        None if table.is_array() => table.set(key, V::zeroed()),
        None => table.remove(key),
    }
}
