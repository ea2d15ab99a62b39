//! Attaching the programs to devices, by pinned links where the kernel has them.

mod attachments;
mod clsact;
mod links;
mod tc;
mod trial;
pub mod xdp;

pub use attachments::{AttachedDevice, Attachments};
pub use clsact::{has_filters, remove as remove_filters};
pub use tc::Tc;
pub use trial::try_attach;
