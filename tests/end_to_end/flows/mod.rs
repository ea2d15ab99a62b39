//! Packets and connections on their path: each protocol, each size, many at once.

mod direct;
mod flooded;
mod fragments;
mod many_connections;
mod own_ports;
mod path_mtu;
mod port_collisions;
mod sctp;
mod simultaneous;
mod snat_ports;
mod traceroute;
mod udp;
mod udp_gro;
