//! Maps in memory, for tests and for the dry runs of `weir explain`: one whose writes always succeed, and
//! one whose writes fail now and then.

use std::io;

use super::contents::Contents;
use super::error::MapError;
use super::operation::Operation;
use super::store::MapStore;

/// Maps whose writes always succeed.
#[derive(Clone, Default, Debug)]
pub struct MemoryStore {
    contents: Contents,
}

impl MapStore for MemoryStore {
    fn read(&self) -> Result<Contents, MapError> {
        Ok(self.contents.clone())
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), MapError> {
        self.contents.apply(operation);
        Ok(())
    }
}

/// Maps that fail one write in ten; which ones depends only on a seed.
#[derive(Clone, Debug)]
pub struct FaultyStore {
    inner: MemoryStore,
    random: u64,
}

impl FaultyStore {
    /// Empty maps whose failures follow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { inner: MemoryStore::default(), random: seed }
    }

    fn fails(&mut self) -> bool {
        self.random = lb_common::hash::bytes(self.random, b"next");
        self.random.is_multiple_of(10)
    }
}

impl MapStore for FaultyStore {
    fn read(&self) -> Result<Contents, MapError> {
        self.inner.read()
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), MapError> {
        if self.fails() {
            return Err(MapError::Refused {
                map: operation.map().name,
                operation: "write",
                cause: io::Error::from_raw_os_error(libc::EBUSY),
            });
        }
        self.inner.apply(operation)
    }
}
