//! What the maps hold, as a value ([`Contents`]); its families ([`InContents`]); and the contents as
//! the maps of a walk.

mod family;
mod filter;
mod filter_counts;
mod pool_slots;
mod references;
mod tables;
mod values;

pub use self::family::InContents;
pub use self::filter::FilterBits;
pub use self::filter_counts::FilterCounts;
pub use self::pool_slots::PoolSlots;
pub use self::references::{BackendSet, References};
pub use self::values::{Contents, FamilyContents};
