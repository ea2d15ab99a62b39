//! The node's devices: what the kernel says of them by `netlink`, and what they lead to by `classify`.

mod classify;
mod link;
mod netlink;

pub use classify::{Device, Selection, classify};
pub use link::Link;
pub use netlink::{Netlink, NetlinkError, RouteTarget};
