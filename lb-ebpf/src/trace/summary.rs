//! Steps in numbers, for a log that cannot hold more.

use lb_common::address::Address;

use super::step::Step;
use crate::world::{FibResult, Table};

macro_rules! step_kinds {
    ($($kind:ident, $name:literal;)+) => {
        /// What a step looks up or writes, for logs.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum StepKind {
            $(#[doc = $name] $kind,)+
        }

        impl StepKind {
            /// Every kind, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)+];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }
        }
    };
}

step_kinds! {
    Frontend, "frontend";
    IpPolicy, "address policy";
    ServiceRanges, "service ranges";
    SourceRanges, "source ranges";
    Slot, "slot";
    Backend, "backend";
    Filter, "filter";
    Settings, "settings";
    ConntrackLookup, "conntrack lookup";
    HalfOpenLookup, "half-open lookup";
    Mapping, "mapping";
    ConntrackInsert, "conntrack insert";
    HalfOpenInsert, "half-open insert";
    SetState, "state";
    SetExpected, "expected";
    Remove, "remove";
    Affinity, "affinity";
    SetAffinity, "affinity set";
    Fragment, "fragment lookup";
    Fib, "FIB lookup";
    SourceAddress, "source address";
    RateLimit, "rate limit";
    LocalSocket, "local socket";
}

/// A step in three numbers, for a log that cannot hold more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Summary {
    /// The number of its [`StepKind`].
    pub kind: u32,
    /// 0 where it found or did nothing (miss, no, refused), else 1.
    pub found: u32,
    /// What it was about: a slot, a backend, a device, a state; 0 where nothing of the kind is.
    pub value: u32,
}

impl<A: Address> Step<'_, A> {
    /// The step in numbers. Nothing is taken out of an enum that holds it by value: where a variant has
    /// nothing, the compiler leaves it unwritten, and the verifier refuses to read it.
    #[inline(always)]
    #[must_use]
    pub const fn summary(&self) -> Summary {
        let (kind, found, value) = match self {
            Self::Frontend(_, row) => (StepKind::Frontend, row.is_some(), 0),
            Self::IpPolicy(_, policy) => (StepKind::IpPolicy, policy.is_some(), 0),
            Self::InServiceRanges(_, is_in) => (StepKind::ServiceRanges, *is_in, 0),
            Self::SourceAllowed(source, allowed) => {
                (StepKind::SourceRanges, *allowed, source.service.0)
            }
            Self::Slot(index, id) => (StepKind::Slot, id.is_some(), *index),
            Self::Backend(id, row) => (StepKind::Backend, row.is_some(), id.0),
            Self::Filter(position, matches) => (StepKind::Filter, *matches, position.word),
            Self::Settings(_) => (StepKind::Settings, true, 0),
            Self::Lookup(Table::Established, _, entry) => match entry {
                Some(entry) => (StepKind::ConntrackLookup, true, entry.backend.0),
                None => (StepKind::ConntrackLookup, false, 0),
            },
            Self::Lookup(Table::HalfOpen, _, entry) => match entry {
                Some(entry) => (StepKind::HalfOpenLookup, true, entry.backend.0),
                None => (StepKind::HalfOpenLookup, false, 0),
            },
            Self::HasMapping(_, _, _, found) => (StepKind::Mapping, *found, 0),
            Self::Insert(Table::Established, _, entry, result) => {
                (StepKind::ConntrackInsert, result.is_ok(), entry.backend.0)
            }
            Self::Insert(Table::HalfOpen, _, entry, result) => {
                (StepKind::HalfOpenInsert, result.is_ok(), entry.backend.0)
            }
            Self::SetState(_, _, state) => (StepKind::SetState, true, state.bits()),
            Self::SetExpected(_, _, expected) => (StepKind::SetExpected, true, *expected),
            Self::Remove(..) => (StepKind::Remove, true, 0),
            Self::Affinity(_, affinity) => (StepKind::Affinity, affinity.is_some(), 0),
            Self::SetAffinity(_, affinity, is_set) => {
                (StepKind::SetAffinity, *is_set, affinity.backend.0)
            }
            Self::Fragment(_, found) => (StepKind::Fragment, *found, 0),
            Self::Fib(_, result) => (StepKind::Fib, matches!(result, FibResult::Found(_)), 0),
            Self::SourceAddress(device, _) => (StepKind::SourceAddress, true, *device),
            Self::RateLimit(limit, allowed) => (StepKind::RateLimit, *allowed, *limit as u32),
            Self::SocketExists(_, exists) => (StepKind::LocalSocket, *exists, 0),
        };
        Summary { kind: kind as u32, found: found as u32, value }
    }
}
