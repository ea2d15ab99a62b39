//! Which addresses and ports serve, from where, and what the others reply.

mod cluster_ip;
mod host_localhost;
mod host_packets;
pub mod host_policies;
pub mod host_processes;
mod host_sockets;
mod left_alone;
mod node_port;
mod rejects;
mod source_address;
mod tunnel;
mod uplink;
