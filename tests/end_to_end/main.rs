//! What users are promised, one file per promise, in namespaces with real clients and servers.

mod bad_input;
mod capabilities;
mod clashes;
mod cluster_ip;
mod detach;
mod devices;
mod edits;
mod health_check;
mod many_connections;
mod node_port;
mod observe;
mod restarts;
mod the_lab;
