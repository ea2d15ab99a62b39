//! Real servers and clients. TCP speaks HTTP/1.1, so that `curl` can join in; UDP speaks one line.
//! Every response names the pod it came from and the client's address as that pod saw it.

mod attempt;
mod echo;
mod flow;
mod http;
mod ping;
pub mod raw;
mod sctp;
mod tcp;
mod timeout;
mod traceroute;
mod udp;

pub use attempt::{AttemptResult, attempt};
pub use echo::Echo;
pub use flow::{Flow, Origin};
pub use http::{Message, probe};
pub use ping::ping;
pub use sctp::{SctpServer, associate};
pub use tcp::{Client, Response, TcpServer, get};
pub use timeout::TIMEOUT;
pub use traceroute::{Hop, traceroute};
pub use udp::{Caller, Tally, UdpServer, ask, converse, tick};

use anyhow::Result;

use crate::lab::{Lab, Namespace};

/// The port that pods serve HTTP on.
pub const HTTP_PORT: u16 = 8080;

/// The port that pods echo datagrams on.
pub const ECHO_PORT: u16 = 7777;

/// The servers of one pod; dropping them ends them with their connections.
#[derive(Debug)]
pub struct Servers {
    _tcp: TcpServer,
    _udp: UdpServer,
}

impl Servers {
    /// Starts both servers in `namespace`; their responses name them `name`.
    ///
    /// # Errors
    /// If a port is taken.
    pub fn start(namespace: &Namespace, name: &str) -> Result<Self> {
        Ok(Self {
            _tcp: TcpServer::start(namespace, name, HTTP_PORT)?,
            _udp: UdpServer::start(namespace, name, ECHO_PORT)?,
        })
    }
}

/// Starts the servers of every pod of `lab`.
///
/// # Errors
/// If one of them cannot start.
pub fn serve(lab: &Lab) -> Result<Vec<Servers>> {
    lab.pods().map(|pod| Servers::start(&pod.namespace, &pod.name)).collect()
}
