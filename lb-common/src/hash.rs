//! The one hash of the datapath, over tuples and frontends.
//!
//! Two 64-bit multiply-and-fold rounds after murmur3's finalizer (public domain, Austin Appleby);
//! BPF has 64-bit multiplication but not the 128-bit one of newer hashes. The hash decides which backend
//! a flow gets, so nodes that must agree need the same version of it. It does not resist chosen tuples.

use crate::address::{Address, Port, Protocol, Tuple};

const FIRST: u64 = 0xff51_afd7_ed55_8ccd;
const SECOND: u64 = 0xc4ce_b9fe_1a85_ec53;

#[inline(always)]
const fn mix(state: u64, word: u64) -> u64 {
    let mixed = (state ^ word).wrapping_mul(FIRST);
    mixed ^ (mixed >> 32)
}

#[inline(always)]
const fn finish_wide(state: u64) -> u64 {
    let mixed = state.wrapping_mul(SECOND);
    mixed ^ (mixed >> 29)
}

#[inline(always)]
const fn finish(state: u64) -> u32 {
    finish_wide(state) as u32
}

#[inline(always)]
fn mix_address<A: Address>(state: u64, address: &A) -> u64 {
    let [a, b, c, d] = address.words();
    let state = mix(state, pair(a, b));
    match A::FAMILY {
        crate::address::Family::V4 => state,
        crate::address::Family::V6 => mix(state, pair(c, d)),
    }
}

#[inline(always)]
const fn pair(a: u32, b: u32) -> u64 {
    (a as u64) | ((b as u64) << 32)
}

/// Hash of an address with a port and a protocol.
#[inline(always)]
#[must_use]
pub fn endpoint<A: Address>(address: &A, port: Port, protocol: Protocol) -> u32 {
    let rest = pair(u16::from_ne_bytes(port.0) as u32, protocol.0 as u32);
    finish(mix(mix_address(0, address), rest))
}

/// Hash of a flow: the same on every node for the same packet.
#[inline(always)]
#[must_use]
pub fn tuple<A: Address>(tuple: &Tuple<A>) -> u32 {
    tuple_wide(tuple) as u32
}

/// The same with all of its 64 bits.
#[inline(always)]
#[must_use]
pub fn tuple_wide<A: Address>(tuple: &Tuple<A>) -> u64 {
    let ports = pair(
        (u16::from_ne_bytes(tuple.source_port.0) as u32)
            | ((u16::from_ne_bytes(tuple.destination_port.0) as u32) << 16),
        tuple.protocol.0 as u32,
    );
    let state = mix_address(0, &tuple.source);
    finish_wide(mix(mix_address(state, &tuple.destination), ports))
}

/// Hash of two addresses, of which the upper bits count: for a cache, of one multiplication each.
#[inline(always)]
#[must_use]
pub fn addresses<A: Address>(source: &A, destination: &A) -> u64 {
    word(source).wrapping_mul(FIRST) ^ word(destination).wrapping_mul(SECOND)
}

/// An address in one word, whose lower bits are those in which hosts of one network differ.
#[inline(always)]
fn word<A: Address>(address: &A) -> u64 {
    let [a, b, c, d] = address.words().map(u32::from_be);
    match A::FAMILY {
        crate::address::Family::V4 => pair(a, 0),
        crate::address::Family::V6 => pair(b, a) ^ pair(d, c),
    }
}

/// Hash of bytes in user space, for Maglev tables: FNV-1a, with the same final mix.
#[must_use]
pub fn bytes(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325 ^ seed;
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    mix(mix(state, seed), SECOND)
}

/// Maps `hash` to `0..length` without a division (Lemire, "Fast random integer generation in
/// an interval", 2019).
#[inline(always)]
#[must_use]
pub const fn reduce(hash: u32, length: u32) -> u32 {
    ((hash as u64 * length as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::address::{V4, V6};

    #[test]
    fn neighbouring_flows_spread_evenly() {
        const BUCKETS: usize = 101;
        const FLOWS: u32 = 101_000;
        let mut counts = [0u32; BUCKETS];
        for i in 0..FLOWS {
            let tuple = Tuple::new(
                V4([10, 0, (i >> 16) as u8, 7]),
                Port::new((i & 0xffff) as u16),
                V4([10, 96, 0, 1]),
                Port::new(80),
                Protocol::TCP,
            );
            counts[reduce(super::tuple(&tuple), BUCKETS as u32) as usize] += 1;
        }
        // 1000 expected, standard deviation 32; six standard deviations are allowed.
        for count in counts {
            assert!((808..=1192).contains(&count), "{count} of about 1000");
        }
    }

    #[test]
    fn two_addresses_find_places_of_their_own() {
        const PLACES: usize = 4096;
        let v4 = |host: u16| {
            let [high, low] = host.to_be_bytes();
            V4([10, 244, high, low])
        };
        let v6 = |host: u16| {
            let [high, low] = host.to_be_bytes();
            V6([0xfd, 0, 2, 0x44, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, high, low])
        };
        let hosts = |first: u16| first..first + 32;
        let pairs = || hosts(7).flat_map(|from| hosts(516).map(move |to| (from, to)));
        let of_v4 = pairs().map(|(from, to)| addresses(&v4(from), &v4(to)));
        let of_v6 = pairs().map(|(from, to)| addresses(&v6(from), &v6(to)));
        for hashes in [of_v4.collect::<std::vec::Vec<_>>(), of_v6.collect()] {
            let mut taken = [false; PLACES];
            hashes.iter().for_each(|hash| taken[(hash >> 52) as usize] = true);
            // Thrown at random, 1024 pairs take 906.
            let count = taken.iter().filter(|taken| **taken).count();
            assert!(count > 850, "{count} of 1024 pairs");
        }
    }

    #[test]
    fn every_word_of_an_ipv6_address_counts() {
        let hash = |byte: usize| {
            let mut address = [0u8; 16];
            address[byte] = 1;
            endpoint(&V6(address), Port::new(80), Protocol::TCP)
        };
        for byte in 1..16 {
            assert_ne!(hash(0), hash(byte), "byte {byte}");
        }
    }

    #[test]
    fn a_reduced_hash_is_below_its_length() {
        for hash in [0, 1, u32::MAX / 2, u32::MAX] {
            for length in [1, 2, 401, u32::MAX] {
                assert!(reduce(hash, length) < length);
            }
        }
    }
}
