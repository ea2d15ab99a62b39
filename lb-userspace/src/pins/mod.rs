//! Where programs and maps live while no agent does: pins on a BPF file system.

mod attach_point;
mod directory;
mod error;
mod generations;
mod layout;
mod layout_map;
mod links;
mod resized;
mod shape;

pub use attach_point::AttachPoint;
pub use directory::{Pins, is_bpffs, is_link};
pub use error::PinError;
pub use generations::Handover;
pub use layout::{Layout, LayoutError, Rows, Span, value_fields};
pub use shape::Shape;
