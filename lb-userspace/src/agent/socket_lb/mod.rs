//! Socket load balancing: the programs on a control group, and the connected UDP sockets that no
//! program sees.

mod programs;
mod sock_destroy;
mod stale_udp;

pub(super) use programs::SocketLb;
pub(super) use sock_destroy::StaleUdpSockets;
