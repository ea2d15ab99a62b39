//! What changes have touched since the last plan.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::model::Name;

/// What a plan must look at again.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Touched {
    /// Everything: the node's addresses, the service CIDRs, or what was written is not what was meant.
    everything: bool,
    /// The rows of the node's devices.
    pub devices: bool,
    /// Services whose rows may be others, there or not.
    pub services: BTreeSet<Name>,
    /// Addresses of Services that are others, or no one's.
    pub addresses: BTreeSet<IpAddr>,
}

impl Touched {
    /// Everything.
    #[must_use]
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Adds everything.
    pub fn add_everything(&mut self) {
        self.everything = true;
    }

    /// Adds the rows of the node's devices. A device's address may be a frontend's too: where they change, everything is
    /// touched.
    pub fn add_devices(&mut self) {
        self.devices = true;
    }

    /// Adds Services.
    pub fn add_services(&mut self, names: BTreeSet<Name>) {
        self.services.extend(names);
    }

    /// Whether that is everything.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.everything
    }
}
