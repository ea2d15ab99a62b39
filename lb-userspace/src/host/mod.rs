//! The node we run on: its devices and routes, its CPUs and memory, the ports that SNAT may take, and the system
//! calls that no library makes for us.

pub mod cgroup;
pub mod devices;
pub mod meminfo;
pub(crate) mod netlink;
pub mod processors;
pub mod snat_ports;
pub(crate) mod syscall;
