//! What the maps hold, as a value ([`Contents`]); its families ([`InContents`]); and the contents as
//! the maps of a walk.

mod family;
mod tables;
mod values;

pub use self::family::InContents;
pub use self::values::{BackendSet, Contents, FamilyContents};
