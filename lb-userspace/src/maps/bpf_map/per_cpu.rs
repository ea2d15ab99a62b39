//! An array with a value for each CPU.

use std::ops::ControlFlow;
use std::os::fd::AsFd;

use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use lb_common::maps::Map;

use super::cause;
use crate::host::syscall::{Sizes, for_each_raw};
use crate::maps::error::MapError;
use crate::pins::Pins;

/// A per-CPU array.
pub struct PerCpuTable<const WORDS: usize> {
    /// `None` of another layout, whose counters are not read: they begin again.
    array: Option<PerCpuArray<MapData, [u64; WORDS]>>,
    /// The same, for reads of many entries at once.
    data: Option<MapData>,
    map: &'static Map,
    cpus: usize,
}

impl<const WORDS: usize> PerCpuTable<WORDS> {
    /// Opens the pin of `map`, whose values are `WORDS` numbers.
    ///
    /// # Errors
    /// The pin is missing, or of a map with other values.
    pub fn open(pins: &Pins, map: &'static Map) -> Result<Self, MapError> {
        let open = || MapData::from_pin(pins.map(map));
        let is_own = pins.other_layout().is_none();
        let failed = |error| MapError::new(map, "open", cause(error));
        let array = is_own.then(|| aya::maps::Map::PerCpuArray(open()?).try_into()).transpose();
        Ok(Self {
            array: array.map_err(failed)?,
            data: is_own.then(open).transpose().map_err(failed)?,
            map,
            cpus: nr_cpus().map_err(|(_, error)| MapError::new(map, "open", error))?,
        })
    }

    /// The sums over all CPUs at `index`.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn sum(&self, index: u32) -> Result<[u64; WORDS], MapError> {
        let values = self.of_each_cpu(index)?;
        let mut sums = [0u64; WORDS];
        for value in values.iter() {
            for (sum, number) in sums.iter_mut().zip(value) {
                *sum = sum.wrapping_add(*number);
            }
        }
        Ok(sums)
    }

    /// The sums over all CPUs at each index below `end`, or below the map's size.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn sums(&self, end: u32) -> Result<Vec<[u64; WORDS]>, MapError> {
        let Some(data) = &self.data else { return Ok(vec![[0; WORDS]; end as usize]) };
        let sizes = Sizes { key: size_of::<u32>(), value: WORDS * size_of::<u64>() * self.cpus };
        let mut sums = Vec::new();
        if end == 0 {
            return Ok(sums);
        }
        let read = for_each_raw(data.fd().as_fd(), sizes, |_, of_all_cpus| {
            let mut sum = [0u64; WORDS];
            for (place, number) in of_all_cpus.chunks_exact(size_of::<u64>()).enumerate() {
                let number: u64 = bytemuck::pod_read_unaligned(number);
                sum[place % WORDS] = sum[place % WORDS].wrapping_add(number);
            }
            sums.push(sum);
            if sums.len() < end as usize {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        read.map_err(|error| MapError::new(self.map, "read", error))?;
        Ok(sums)
    }

    /// Copies the numbers of all CPUs at `index` to another map of this kind.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn copy(&self, index: u32, to: &mut Self) -> Result<(), MapError> {
        let numbers = self.of_each_cpu(index)?;
        let Some(array) = &mut to.array else { return Ok(()) };
        let copied = array.set(index, numbers, 0);
        copied.map_err(|error| MapError::new(self.map, "write an entry of", cause(error)))
    }

    fn of_each_cpu(&self, index: u32) -> Result<PerCpuValues<[u64; WORDS]>, MapError> {
        let Some(array) = &self.array else { return self.zeroes() };
        let values = array.get(&index, 0);
        values.map_err(|error| MapError::new(self.map, "look up an entry of", cause(error)))
    }

    /// Sets the numbers of all CPUs at `index` to zero.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn clear(&mut self, index: u32) -> Result<(), MapError> {
        let zeroes = self.zeroes()?;
        let failed = |error| MapError::new(self.map, "clear an entry of", cause(error));
        self.array.as_mut().map_or(Ok(()), |array| array.set(index, zeroes, 0)).map_err(failed)
    }

    fn zeroes(&self) -> Result<PerCpuValues<[u64; WORDS]>, MapError> {
        let zeroes = PerCpuValues::try_from(vec![[0; WORDS]; self.cpus]);
        zeroes.map_err(|error| MapError::new(self.map, "clear an entry of", error))
    }
}
