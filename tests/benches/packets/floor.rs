//! Kinds of hooks, and the benchmark's own programs to compare with.

use lb_ebpf::cases::Program;

/// The kind of hook of a program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum HookKind {
    /// XDP
    Xdp,
    /// XDP, of a program that takes frames in several buffers
    XdpFrags,
    /// TC
    Tc,
}

impl HookKind {
    /// That of `program`.
    pub fn of(program: Program) -> Self {
        if program == Program::NetworkXdp { Self::Xdp } else { Self::Tc }
    }

    /// The wrapper's program.
    pub const fn wrapper(self) -> &'static str {
        match self {
            Self::Xdp => "repeat_xdp",
            Self::XdpFrags => "repeat_xdp_frags",
            Self::Tc => "repeat_tc",
        }
    }

    /// The map that the wrapper calls its program by.
    pub const fn target(self) -> &'static str {
        match self {
            Self::Xdp => "XDP_PROGRAM",
            Self::XdpFrags => "XDP_FRAGS",
            Self::Tc => "TC_PROGRAM",
        }
    }
}

/// A program of the benchmark's own, to subtract or to compare with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Floor {
    /// Drops the packet unseen.
    Drop,
    /// Sends it back unseen. Only where frames are sent does it cost more than dropping.
    Send,
    /// Looks its tuple up in one table of 65,536 entries, and sends it back.
    OneLookUp,
    /// In two.
    TwoLookUps,
}

impl Floor {
    /// The floors where no frame is sent.
    pub const ALL: [Self; 3] = [Self::Drop, Self::OneLookUp, Self::TwoLookUps];

    /// Its program.
    pub fn program(self, hook: HookKind) -> &'static str {
        match (self, hook) {
            (Self::Drop, HookKind::Xdp | HookKind::XdpFrags) => "drop_xdp",
            (Self::Drop, HookKind::Tc) => "drop_tc",
            (Self::Send, _) => "send_xdp",
            (Self::OneLookUp, HookKind::Xdp | HookKind::XdpFrags) => "one_look_up_xdp",
            (Self::OneLookUp, HookKind::Tc) => "one_look_up_tc",
            (Self::TwoLookUps, HookKind::Xdp | HookKind::XdpFrags) => "two_look_ups_xdp",
            (Self::TwoLookUps, HookKind::Tc) => "two_look_ups_tc",
        }
    }
}
