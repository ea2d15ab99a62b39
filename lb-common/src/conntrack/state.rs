//! The state of a flow, and its timeouts.

use core::fmt;

use crate::address::Protocol;

/// How far a flow has come; the same in both of its entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct State(pub u8);

impl State {
    /// Nothing seen but the client's first packet.
    pub const NEW: Self = Self(0);
    /// The backend has replied.
    pub const REPLIED: Self = Self(1);
    /// The client has sent after that reply: the flow is in `CONNTRACK_*`.
    pub const ESTABLISHED: Self = Self(1 << 1);
    /// The client has sent FIN.
    pub const FIN_CLIENT: Self = Self(1 << 2);
    /// The backend has sent FIN.
    pub const FIN_BACKEND: Self = Self(1 << 3);
    /// One side has sent RST, and nothing but RST has been seen since.
    pub const RST: Self = Self(1 << 4);

    /// Whether all of `other`'s marks are set.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// This state with `other`'s marks too.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This state without `other`'s marks.
    #[inline(always)]
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the flow is over: both sides have closed, or one has reset it. A SYN may then begin
    /// another with the same tuple.
    #[inline(always)]
    #[must_use]
    pub const fn is_over(self) -> bool {
        self.has(Self::RST) || self.has(Self::FIN_CLIENT.with(Self::FIN_BACKEND))
    }

    /// The state in one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        if self.has(Self::RST) {
            "reset"
        } else if self.is_over() {
            "closed"
        } else if self.has(Self::FIN_CLIENT) || self.has(Self::FIN_BACKEND) {
            "closing"
        } else if self.has(Self::ESTABLISHED) {
            "established"
        } else if self.has(Self::REPLIED) {
            "replied"
        } else {
            "new"
        }
    }

    /// Seconds without a packet in either direction after which the flow is expired.
    ///
    /// TCP's are kube-proxy's and netfilter's (`nf_conntrack_tcp_timeout_*`): 24 hours established,
    /// one hour half closed, 120 s after both FINs, 10 s after a reset; UDP's are 30 s before and
    /// 120 s after the flow is established. SCTP's, whose ends send heartbeats, are 210 s established,
    /// 30 s before and 10 s after.
    #[must_use]
    pub const fn timeout_seconds(self, protocol: Protocol) -> u32 {
        if protocol.0 == Protocol::UDP.0 {
            return if self.has(Self::ESTABLISHED) { 120 } else { 30 };
        }
        if protocol.0 == Protocol::SCTP.0 {
            let is_over = self.has(Self::RST) || self.is_over();
            return if is_over {
                10
            } else if self.has(Self::ESTABLISHED) {
                210
            } else {
                30
            };
        }
        if self.has(Self::RST) {
            10
        } else if self.is_over() {
            120
        } else if self.has(Self::FIN_CLIENT) || self.has(Self::FIN_BACKEND) {
            3600
        } else if self.has(Self::ESTABLISHED) {
            24 * 3600
        } else {
            60
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_over_after_both_fins_or_one_reset() {
        assert!(!State::ESTABLISHED.with(State::FIN_CLIENT).is_over());
        assert!(State::FIN_CLIENT.with(State::FIN_BACKEND).is_over());
        assert!(State::ESTABLISHED.with(State::RST).is_over());
        assert!(!State::ESTABLISHED.with(State::RST).without(State::RST).is_over());
    }
}
