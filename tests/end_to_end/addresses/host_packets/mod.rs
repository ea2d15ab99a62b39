//! What processes of the node, and its kernel, send to Services without a program that sees the system call: it is
//! translated where it leaves the node.

mod connected_udp;
mod kernel;
mod lifecycle;
