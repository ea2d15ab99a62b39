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
}
