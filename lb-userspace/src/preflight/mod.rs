//! The check before a start: what Weir needs of a node and of its kernel, who else has a hand in its
//! packets, and what to change. `weir check` prints it, `weir run` refuses to start where it fails.

mod cilium;
mod conntrack;
mod finding;
mod firewall;
mod hardening;
mod kernel;
mod kube_proxy;
mod map_memory;
mod netfilter;
mod node;
mod trial;

pub use cilium::Cilium;
pub use conntrack::KernelConntrack;
pub use finding::{Finding, Level};
pub use firewall::Firewall;
pub use hardening::Hardening;
pub use kernel::Kernel;
pub use kube_proxy::Traces;
pub use map_memory::Memory;
pub use node::{Node, Pinned, PinnedLayout, PinnedMaps};
