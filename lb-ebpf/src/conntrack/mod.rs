//! Connection tracking: which entry decides about a packet ([`lookup`]), how a flow's entries are
//! created ([`create`]) and what they rewrite ([`nat`]), and how they change and end ([`state`]);
//! which are direct ([`direct`]), and which are the node's own ([`own`]).

mod create;
mod direct;
pub(crate) mod lookup;
pub(crate) mod nat;
mod own;
pub(crate) mod state;
