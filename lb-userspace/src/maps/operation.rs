//! One write to a map, as a value that can be ordered, printed, and applied to the kernel's maps, to
//! memory or to [`Contents`](super::Contents).

use lb_common::address::{Family, Protocol, V4, V6};
use lb_common::backend::{Backend, BackendId};
use lb_common::device::Device;
use lb_common::maps::{self, Map, PerFamily};
use lb_common::service::{Frontend, FrontendRow, IpPolicy, ServiceId, ServiceLabel};
use lb_common::settings::Settings;
use lb_common::source_range::SourceRange;

use super::catalogue::with_family_maps;
use super::contents::PoolSlots;

/// One write to a map. `None` removes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// A row of `SERVICES`.
    Service(ServiceId, Option<Box<ServiceLabel>>),
    /// A write to a map of IPv4.
    V4(FamilyOperation<V4>),
    /// A write to a map of IPv6.
    V6(FamilyOperation<V6>),
    /// The range of `SLOTS` that begins at `base`. Nothing refers to it while it is written, so
    /// the write need not be atomic.
    Slots {
        /// Index of the first slot.
        base: u32,
        /// What they hold, with the id in each. `None` if the range is free; then nothing is written.
        slots: Option<PoolSlots>,
    },
    /// A word of `FILTER`.
    Filter {
        /// Its index.
        word: u32,
        /// All its bits.
        bits: u64,
    },
    /// A row of `DEVICES`.
    Device(u32, Option<Device>),
    /// The row of `SETTINGS`.
    Settings(Settings),
}

macro_rules! declare_operation {
    ($($(#[$doc:meta])* $operation:ident, $field:ident: $key:ty => $value:ty, $map:ident;)+) => {
        /// One write to a map that exists in each family. `None` removes.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum FamilyOperation<A> {
            $($(#[$doc])* $operation($key, Option<$value>),)+
        }

        impl<A> FamilyOperation<A> {
            const fn map(&self) -> &'static PerFamily {
                match self { $(Self::$operation(..) => &maps::$map,)+ }
            }
        }
    };
}

with_family_maps!(declare_operation);

impl<A> FamilyOperation<A> {
    /// Whether it writes a frontend or backend of UDP, or removes a backend, whose protocol it does not say.
    fn is_of_udp(&self) -> bool {
        match self {
            Self::Frontend(frontend, _) => frontend.protocol == Protocol::UDP,
            Self::Backend(_, row) => row.as_ref().is_none_or(|row| row.protocol == Protocol::UDP),
            // It decides whether a socket at a frontend is left alone.
            Self::SourceRange(..) => true,
            Self::IpPolicy(..) => false,
        }
    }
}

impl Operation {
    /// Whether it may change what serves a UDP socket.
    #[must_use]
    pub fn is_of_udp(&self) -> bool {
        match self {
            Self::V4(operation) => operation.is_of_udp(),
            Self::V6(operation) => operation.is_of_udp(),
            // Whose sockets are balanced is in the settings.
            Self::Settings(_) => true,
            Self::Service(..) | Self::Slots { .. } | Self::Filter { .. } | Self::Device(..) => {
                false
            }
        }
    }

    /// The map it writes.
    #[must_use]
    pub const fn map(&self) -> &'static Map {
        match self {
            Self::Service(..) => &maps::SERVICES,
            Self::V4(operation) => operation.map().of(Family::V4),
            Self::V6(operation) => operation.map().of(Family::V6),
            Self::Slots { .. } => &maps::SLOTS,
            Self::Filter { .. } => &maps::FILTER,
            Self::Device(..) => &maps::DEVICES,
            Self::Settings(_) => &maps::SETTINGS,
        }
    }
}
