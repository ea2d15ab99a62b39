//! Where on a device a program is attached.

use std::fmt;

/// A point of a device where one of our programs runs. Its name is part of a link's pin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AttachPoint {
    /// TC, packets on their way into the stack.
    Ingress,
    /// TC, packets on their way out of the stack.
    Egress,
    /// XDP in the device's driver.
    XdpNative,
    /// XDP in front of the stack, for devices whose driver has none.
    XdpGeneric,
}

impl AttachPoint {
    /// All attach points.
    pub const ALL: [Self; 4] = [Self::Ingress, Self::Egress, Self::XdpNative, Self::XdpGeneric];

    /// The name of this attach point in pins and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
        }
    }

    /// The attach point called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|point| point.name() == name)
    }

    /// Whether this is one of the XDP attach points.
    #[must_use]
    pub const fn is_xdp(self) -> bool {
        matches!(self, Self::XdpNative | Self::XdpGeneric)
    }
}

impl fmt::Display for AttachPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attach_points_are_found_by_their_names() {
        for point in AttachPoint::ALL {
            assert_eq!(AttachPoint::from_name(point.name()), Some(point));
        }
        assert_eq!(AttachPoint::from_name("sideways"), None);
    }
}
