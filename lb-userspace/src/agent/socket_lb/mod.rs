//! Socket load balancing: the programs on a control group, and the connected UDP sockets that no
//! program sees.

mod programs;
mod stale_udp;
mod udp_sockets;

pub(super) use programs::SocketLb;
pub(super) use udp_sockets::StaleUdpSockets;
