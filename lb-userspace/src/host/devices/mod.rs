//! The node's devices: what the kernel says of them by `rtnetlink`, and what they lead to by `classify`.

mod classify;
mod link;
mod messages;
mod rtnetlink;

pub use classify::{Device, Selection, classify};
pub use link::{Link, LinkLayer, exists, name};
pub use rtnetlink::{Netlink, NetlinkError, RouteTarget};
