//! The system calls that no library makes for us: entries of maps in batches, links, the running of a
//! few instructions, options of sockets. The only folder of the agent with `unsafe`.

#![allow(unsafe_code, reason = "these calls take pointers; each says why they are good")]

mod bpf;
mod cookies;
mod heap;
mod iptables;
mod links;
mod map_entries;
mod mapped;
mod programs;
mod raw_entries;
mod rcu;
mod socket_option;

pub use cookies::{namespace_cookie, socket_cookie};
pub use heap::trim_heap;
pub use iptables::{IptablesTable, iptables_table};
pub use links::{cgroup_of_pinned_link, detach_pinned_link, update_pinned_link};
pub use map_entries::{delete_batch, insert, lookup, lookup_batch, replace, update_batch};
pub use mapped::Mapped;
pub use programs::{has_tcx, run_at_tc};
pub use raw_entries::{Sizes, for_each_raw};
pub use rcu::wait_for_programs;
