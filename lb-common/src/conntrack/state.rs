//! The state of a flow, and its timeouts.

use core::fmt;

use super::ticks::Ticks;
use crate::address::Protocol;

/// The bit of the last byte that says that there was a RST; the others are a time.
const RESET: u8 = 1 << 7;

/// How far a flow has come; the same in both of its entries. One byte per mark: two CPUs that set two
/// marks at once write two bytes, and neither is lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct State(pub [u8; 4]);

impl State {
    /// Nothing seen but the client's first packet.
    pub const NEW: Self = Self([0; 4]);
    /// The backend has replied.
    pub const REPLIED: Self = Self([1, 0, 0, 0]);
    /// The flow is in `CONNTRACK_*`. Set before the entry is inserted there, never later: it shares its
    /// byte with `REPLIED`.
    pub const ESTABLISHED: Self = Self([1 << 1, 0, 0, 0]);
    /// The client has sent FIN.
    pub const FIN_CLIENT: Self = Self([0, 1, 0, 0]);
    /// The backend has sent FIN.
    pub const FIN_BACKEND: Self = Self([0, 0, 1, 0]);
    /// One side has sent RST. The byte's other bits are the tick of it, see [`State::with_reset`].
    pub const RST: Self = Self([0, 0, 0, RESET]);

    /// The marks in one number, to compare them.
    #[inline(always)]
    #[must_use]
    pub const fn bits(self) -> u32 {
        u32::from_le_bytes(self.0)
    }

    /// Whether all of `other`'s marks are set.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.bits() & other.bits() == other.bits()
    }

    /// This state with `other`'s marks too.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self((self.bits() | other.bits()).to_le_bytes())
    }

    /// This state with `RST`, seen at `now`.
    #[inline(always)]
    #[must_use]
    pub const fn with_reset(self, now: Ticks) -> Self {
        let [replied, client, backend, _] = self.0;
        Self([replied, client, backend, RESET | now.0 as u8])
    }

    /// This state without `RST`.
    #[inline(always)]
    #[must_use]
    pub const fn without_reset(self) -> Self {
        let [replied, client, backend, _] = self.0;
        Self([replied, client, backend, 0])
    }

    /// Ticks since the RST, modulo 128.
    #[inline(always)]
    #[must_use]
    pub const fn ticks_since_reset(self, now: Ticks) -> u8 {
        (now.0 as u8).wrapping_sub(self.0[3]) & !RESET
    }

    /// Whether the flow is over: both sides have closed, or one has reset it. A SYN may then begin
    /// another with the same tuple.
    #[inline(always)]
    #[must_use]
    pub const fn is_over(self) -> bool {
        self.has(Self::RST) || self.has(Self::FIN_CLIENT.with(Self::FIN_BACKEND))
    }

    /// Whether a side has closed the flow, or reset it.
    #[inline(always)]
    #[must_use]
    pub const fn is_closing(self) -> bool {
        let [_, client, backend, reset] = self.0;
        client | backend | reset != 0
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
    /// one hour half closed, 10 s after a reset; UDP's are 120 s once an established flow has had replies,
    /// else 30 s. After both FINs netfilter waits 120 s; here 20 s without a packet are enough, because
    /// each repeated FIN counts from the start, and a node must not be full of what is over. SCTP's, whose ends send heartbeats, are 210 s established,
    /// 30 s before and 10 s after.
    #[must_use]
    pub const fn timeout_seconds(self, protocol: Protocol) -> u32 {
        if protocol.0 == Protocol::UDP.0 {
            return if self.has(Self::ESTABLISHED.with(Self::REPLIED)) { 120 } else { 30 };
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
            20
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
        assert!(!State::ESTABLISHED.with(State::RST).without_reset().is_over());
    }

    #[test]
    fn a_reset_knows_its_age_over_a_turn_of_the_clock() {
        for now in [1, 126, 127, 128, 255, 256, u32::MAX - 1] {
            let state = State::ESTABLISHED.with_reset(Ticks(now));
            assert!(state.has(State::RST) && state.has(State::ESTABLISHED));
            assert_eq!(state.ticks_since_reset(Ticks(now)), 0);
            assert_eq!(state.ticks_since_reset(Ticks(now.wrapping_add(3))), 3);
        }
    }
}
