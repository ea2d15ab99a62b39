//! What users are promised, one file per promise, in namespaces with real clients and servers.

mod affinity;
mod bad_input;
mod capabilities;
mod clashes;
mod cluster_ip;
mod detach;
mod devices;
mod draining;
mod edits;
mod fragments;
mod full_tables;
mod health_check;
mod host_processes;
mod many_connections;
mod narrow_link;
mod node_port;
mod observe;
mod refusals;
mod restarts;
mod rolling;
mod sctp;
mod source_ranges;
mod the_lab;
mod traceroute;
mod traffic_policies;
mod udp;
