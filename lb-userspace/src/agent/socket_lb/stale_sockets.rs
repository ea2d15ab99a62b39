//! Destroys the connected UDP sockets that are stale, by the contents of the maps.

use std::collections::HashSet;

use lb_common::socket::UdpConnected;
use tracing::{info, warn};

use super::stale_udp::{Staleness, staleness};
use crate::datapath::sock_destroy::{Connected, UdpSockets};
use crate::maps::{Contents, Operation};
use crate::pins::{PinError, Pins};

/// How many sockets that were destroyed at a frontend are remembered; most of them are gone by then.
const MOST_REMEMBERED: usize = 1 << 16;

/// The connected UDP sockets of this node's processes.
#[derive(Debug)]
pub struct StaleUdpSockets {
    udp: UdpSockets,
    /// Why some that are stale go on, if they do.
    error: Option<String>,
    /// Cookies of those that were destroyed because they were at a frontend.
    destroyed_at_frontend: HashSet<u64>,
    /// Whether UDP's frontends or backends have changed since.
    is_due: bool,
}

impl StaleUdpSockets {
    /// Opens the map of connected sockets in `pins`.
    ///
    /// # Errors
    /// [`PinError::Map`]
    pub fn open(pins: &Pins) -> Result<Self, PinError> {
        Ok(Self {
            udp: UdpSockets::open(pins)?,
            error: None,
            destroyed_at_frontend: HashSet::new(),
            is_due: true,
        })
    }

    /// These operations are written.
    pub fn follow(&mut self, operations: &[Operation]) {
        self.is_due |= operations.iter().any(Operation::is_of_udp);
    }

    /// Whether what is written may have made a socket stale.
    pub const fn is_due(&self) -> bool {
        self.is_due
    }

    /// Destroys the sockets that are stale by these contents of the maps; returns how many. An error is
    /// logged once.
    pub fn destroy(&mut self, contents: &Contents) -> u64 {
        self.is_due = false;
        let mut destroyed = 0;
        let at_frontend = &mut self.destroyed_at_frontend;
        let is_stale = |socket: &Connected, entry: Option<&UdpConnected>| {
            match staleness(socket.peer, entry, contents) {
                Some(Staleness::BackendGone) => true,
                // One whose connect no program sees would be at the frontend again at once.
                Some(Staleness::AtFrontend) => at_frontend.insert(socket.cookie),
                None => false,
            }
        };
        let result = self.udp.destroy(is_stale, &mut destroyed);
        if self.destroyed_at_frontend.len() > MOST_REMEMBERED {
            self.destroyed_at_frontend.clear();
        }
        if destroyed > 0 {
            info!(destroyed, "destroyed UDP sockets of removed backends");
        }
        let error = result.err().map(|error| {
            format!(
                "connected UDP sockets of removed backends cannot be destroyed: {error}; they stay until \
                 their processes connect again"
            )
        });
        if let Some(error) = error.iter().find(|error| self.error.as_ref() != Some(error)) {
            warn!("{error}");
        }
        self.error = error;
        destroyed
    }
}
