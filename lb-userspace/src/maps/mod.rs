//! What the maps hold, as a value ([`contents`]); the writes from one such value to another ([`diff`]);
//! and the stores they are applied to ([`MapStore`]).

pub mod affinity;
mod bpf_map;
mod catalogue;
pub mod conntrack_gc;
pub mod contents;
pub mod diff;
mod dump;
mod error;
pub mod flow_table;
pub mod in_memory;
pub mod kernel;
mod operation;
pub mod other_layout;
pub mod resize;
mod store;

pub use contents::{
    BackendSet, Contents, FamilyContents, FilterBits, FilterCounts, PoolSlots, References,
};
pub use diff::diff;
pub use error::{MapError, size_flag};
pub use operation::{FamilyOperation, Operation};
pub use store::MapStore;
