//! What the benchmark's wrapper programs and its harness agree on: a packet given to a program again
//! and again, each time as it was, each time perhaps of another flow.
//!
//! `BPF_PROG_TEST_RUN` restores nothing between repeats, hence a program that translates would see
//! its own output from the second on. The wrapper writes the headers anew and calls the program.

/// Bytes of a frame that are written anew: Ethernet, IPv6 and TCP headers fit in, and so does
/// whatever the programs change.
pub const HEADERS: usize = 8 * WORDS;

/// The same in 64-bit words: written in words, or the programs would wait for bytes to become words
/// as no packet from a device makes them wait.
pub const WORDS: usize = 10;

/// A series of repeats: what the harness asks for, and what the wrapper has measured.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Series {
    /// The frame's headers as flow 0 has them, in the machine's byte order.
    pub headers: [u64; WORDS],
    /// How the others differ.
    pub spread: Spread,
    /// Bytes of the frame. A program that puts a header in front leaves it longer for the next repeat.
    pub length: u32,
    /// Where the last two bytes of the source address stand, for flows that are listed; else 0.
    pub source_at: u16,
    /// Where those of the destination address stand; the ports follow at once.
    pub destination_at: u16,
    /// Always zero.
    pub zero: u32,
    /// Number of the next repeat.
    pub next: u64,
    /// The repeat whose beginning is noted first.
    pub first: u64,
    /// The repeat whose beginning is noted last.
    pub last: u64,
    /// When it began, in nanoseconds since boot.
    pub began: u64,
    /// When the last began.
    pub ended: u64,
    /// Look-ups of a floor that found nothing.
    pub misses: u64,
}

/// The most flows that can be listed.
pub const LISTED_FLOWS: u32 = 1 << 20;

/// How flows differ: a few low bits of a flow's number are added to one 16-bit word of the headers,
/// a port, and the other bits to another, in an address.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Spread {
    /// The order of flows: an odd multiplier visits all of them before any again.
    pub multiplier: u32,
    /// Flows there are, less one: a power of two less one.
    pub mask: u32,
    /// Bits that go into the low word.
    pub low_bits: u32,
    /// Where the low word stands, in bytes from the frame's start.
    pub low_at: u16,
    /// Where the high word stands.
    pub high_at: u16,
    /// The low word of flow 0.
    pub low: u16,
    /// The high word of flow 0.
    pub high: u16,
}

/// A 16-bit word of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word {
    /// Where it stands, below 64.
    pub at: usize,
    /// What it is, network byte order.
    pub bytes: [u8; 2],
}

impl Spread {
    /// The flow of a repeat.
    #[inline(always)]
    #[must_use]
    pub const fn flow(&self, repeat: u64) -> u32 {
        (repeat as u32).wrapping_mul(self.multiplier) & self.mask
    }

    /// The two words in which the headers of `flow` differ from those of flow 0.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self, flow: u32) -> [Word; 2] {
        let low = flow & ((1 << (self.low_bits & 31)) - 1);
        let high = flow >> (self.low_bits & 31);
        [word(self.low_at, self.low, low), word(self.high_at, self.high, high)]
    }
}

/// A flow in the list of flows: what its frames have where flows differ, as bytes of the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(8))]
pub struct ListedFlow {
    /// The last two bytes of the source address.
    pub source: [u8; 2],
    /// The last two bytes of the destination address.
    pub destination: [u8; 2],
    /// Both ports.
    pub ports: [u8; 4],
}

impl ListedFlow {
    /// The flow of packets the other way.
    #[must_use]
    pub const fn reply(self) -> Self {
        let Self { source, destination, ports: [s0, s1, d0, d1] } = self;
        Self { source: destination, destination: source, ports: [d0, d1, s0, s1] }
    }
}

#[inline(always)]
const fn word(at: u16, base: u16, add: u32) -> Word {
    Word { at: (at & 63) as usize, bytes: base.wrapping_add(add as u16).to_be_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_flow_comes_once_and_has_words_of_its_own() {
        let spread = Spread {
            multiplier: 0x9e37_79b1,
            mask: 0xffff,
            low_bits: 12,
            low_at: 34,
            high_at: 28,
            low: 40_000,
            high: 16,
        };
        let words: BTreeSet<_> = (5..5 + 0x1_0000)
            .map(|repeat| spread.words(spread.flow(repeat)).map(|word| word.bytes))
            .collect();
        assert_eq!(words.len(), 0x1_0000);
        let [low, high] = spread.words(0);
        assert_eq!(low, Word { at: 34, bytes: 40_000u16.to_be_bytes() });
        assert_eq!(high, Word { at: 28, bytes: [0, 16] });
    }
}
