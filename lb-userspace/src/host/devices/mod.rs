//! The node's devices: what the kernel says of them by `rtnetlink`, and what they lead to by `classify`.

mod classify;
mod error;
mod link;
mod messages;
mod routing;
mod rtnetlink;

pub use classify::{Device, Selection, classify};
pub use error::NetlinkError;
pub use link::{Link, LinkLayer, exists, name};
pub use rtnetlink::{Netlink, RouteTarget};
