//! The node's devices, as a packet's walk needs them.

/// The addresses a device sends from; the value of `DEVICES`, keyed by interface index. A packet
/// whose source has to be translated takes the address of the device it leaves by, so that replies
/// return the same way (through an overlay, for one).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct Device {
    /// IPv4 address, unspecified if the device has none.
    pub v4: crate::address::V4,
    /// IPv6 address of global scope, unspecified if the device has none.
    pub v6: crate::address::V6,
    /// [`Device::XDP_SENDS`], [`Device::NO_LINK_HEADER`]
    pub flags: u16,
    /// The link address that frames for this node bear where they arrive by the device, in the order of
    /// the wire; all zero if it is not known, or if frames of any are to be balanced.
    pub link: [u8; 6],
}

impl Device {
    /// Frames that XDP redirects to this device are sent: its driver runs XDP natively.
    pub const XDP_SENDS: u16 = 1;

    /// Its packets have no link header (`dev_is_mac_header_xmit`, include/linux/if_arp.h): the device of a tunnel.
    pub const NO_LINK_HEADER: u16 = 2;

    /// Whether packets leave by this device without a link header.
    #[inline(always)]
    #[must_use]
    pub const fn has_link_header(&self) -> bool {
        self.flags & Self::NO_LINK_HEADER == 0
    }

    /// Whether XDP may redirect frames to this device.
    #[inline(always)]
    #[must_use]
    pub const fn xdp_sends(&self) -> bool {
        self.flags & Self::XDP_SENDS != 0
    }
}
