//! What a packet is walked with, and what is recorded of each walk.

use std::net::SocketAddr;

use lb_common::address::{Address, Port, Protocol, V4, V6};
use lb_common::filter::{self, Position};
use lb_common::service::SourceClass;
use serde::Serialize;

use super::programs::Unseen;
use super::steps::Step;
use crate::maps::Contents;

/// A packet's walk at one hook.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Walk {
    /// The hook.
    pub hook: String,
    /// Its steps.
    pub steps: Vec<Step>,
    /// The outcome's name.
    pub outcome: &'static str,
    /// The outcome as a sentence.
    pub sentence: &'static str,
    /// What decided: a rule of a Service, or the packet's conntrack entry; `None` if no Service has a part.
    pub decided_by: Option<String>,
    /// The packet after the hook.
    pub leaves: String,
    /// Why no program sees the packet there; `None` if one does.
    pub unseen: Option<Unseen>,
}

/// Walks a packet from hook to hook, through the methods of `hooks` and `socket`.
pub struct Walker<'a, W, N> {
    /// The world to walk in.
    pub world: &'a W,
    /// The node around it.
    pub node: &'a N,
    /// The agent's rows, with the names of Services.
    pub contents: &'a Contents,
    /// The class of the sender.
    pub class: SourceClass,
    /// The device that the packet comes in by, if it is known.
    pub device: Option<u32>,
    /// The packet's protocol.
    pub protocol: Protocol,
    /// Whether the packet's tuple has no conntrack entry.
    pub is_new: bool,
}

impl<W, N> Walker<'_, W, N> {
    /// The filter's positions of a source or destination, as a frontend and as a backend, in words.
    pub fn positions(&self, end: SocketAddr) -> [(Position, String); 2] {
        let (port, protocol) = (Port::new(end.port()), self.protocol);
        let [frontend, backend] = match end {
            SocketAddr::V4(end) => both(&V4(end.ip().octets()), port, protocol),
            SocketAddr::V6(end) => both(&V6(end.ip().octets()), port, protocol),
        };
        let end = format!("{end}/{protocol}");
        [(frontend, format!("frontend {end}")), (backend, format!("backend {end}"))]
    }
}

fn both<A: Address>(address: &A, port: Port, protocol: Protocol) -> [Position; 2] {
    [filter::frontend(address, port, protocol), filter::backend(address, port, protocol)]
}
