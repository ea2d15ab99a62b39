//! Connection tracking: which packets may be of a flow ([`filter`]), which entry decides about one ([`lookup`]), how a flow's entries are
//! created ([`create`]), moved to the other table ([`establish`]) and what they rewrite ([`nat`]), and how they change and end ([`state`]);
//! which are direct ([`direct`]), and which are the node's own ([`own`]).

mod create;
mod direct;
mod establish;
mod filter;
pub(crate) mod lookup;
pub(crate) mod nat;
mod own;
pub(crate) mod state;
