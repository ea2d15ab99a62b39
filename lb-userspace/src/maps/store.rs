//! The store of contents.

use super::contents::Contents;
use super::error::MapError;
use super::operation::Operation;

/// A store of contents: the kernel's maps, or memory.
pub trait MapStore {
    /// The current contents.
    ///
    /// # Errors
    /// A map could not be read.
    fn read(&self) -> Result<Contents, MapError>;

    /// Applies one operation.
    ///
    /// # Errors
    /// Nothing was written, or (only for slots, which nothing refers to yet) a part.
    fn apply(&mut self, operation: &Operation) -> Result<(), MapError>;

    /// Applies the first of these operations, or so many from the first on as can be written by one call; returns how
    /// many are done, which is none only with an error or without operations.
    ///
    /// # Errors
    /// Why the one after those that are done failed, as [`Self::apply`].
    fn apply_first(&mut self, operations: &[Operation]) -> (usize, Result<(), MapError>) {
        match operations.first().map(|first| self.apply(first)) {
            None => (0, Ok(())),
            Some(Ok(())) => (1, Ok(())),
            Some(Err(error)) => (0, Err(error)),
        }
    }
}
