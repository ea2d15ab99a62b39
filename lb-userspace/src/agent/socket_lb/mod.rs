//! Socket load balancing: the programs on a control group, and the connected UDP sockets that no
//! program sees.

mod programs;
mod stale_sockets;
mod stale_udp;

pub(super) use programs::SocketLb;
pub(super) use stale_sockets::StaleUdpSockets;
