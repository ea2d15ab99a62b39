//! The two ways to attach at TC.

use std::fmt;

use crate::host::syscall;

/// How programs are attached at TC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tc {
    /// By links, since Linux 6.6: pinned, replaced in one step, in an order with those of others.
    Tcx,
    /// By filters of a clsact qdisc, which stay until they are removed.
    Clsact,
}

impl Tc {
    /// What this kernel has, found out by probing it.
    #[must_use]
    pub fn of_this_kernel() -> Self {
        if syscall::has_tcx() { Self::Tcx } else { Self::Clsact }
    }
}

impl fmt::Display for Tc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}
