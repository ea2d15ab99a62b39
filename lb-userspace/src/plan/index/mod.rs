//! What is known of all Services and all rows without a walk over them, so that a plan costs what was touched.

mod claimed;
mod cluster;
mod contents;
mod family;
mod gaps;
mod sorted_set;
mod touched;

pub use self::cluster::ClusterIndex;
pub use self::contents::ContentsIndex;
pub use self::touched::Touched;

pub(super) use self::cluster::AddressUse;
pub(super) use self::contents::InIndex;
pub(super) use self::family::FamilyIndex;
pub(super) use self::gaps::Gaps;
