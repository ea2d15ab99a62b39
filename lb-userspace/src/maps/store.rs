//! Where contents are kept.

use super::contents::Contents;
use super::error::MapError;
use super::operation::Operation;

/// Where contents are kept: the kernel's maps, or memory.
pub trait MapStore {
    /// Everything the maps hold now.
    ///
    /// # Errors
    /// A map could not be read.
    fn read(&self) -> Result<Contents, MapError>;

    /// Does one operation.
    ///
    /// # Errors
    /// The map took none of it, or (for slots alone, which nothing refers to yet) a part.
    fn apply(&mut self, operation: &Operation) -> Result<(), MapError>;
}
