//! SCTP (RFC 9260): ports, the chunks that open and close an association, and the checksum.
//!
//! The checksum is a CRC over the whole packet, without a pseudo-header: addresses do not touch it,
//! ports do. It need not be computed anew: a CRC is linear, so the change of the ports' four bytes
//! changes it by the CRC of that change followed by as many zeroes as the packet has bytes after
//! them, which is a multiplication by a power of x.

use lb_common::address::Ports;

use super::transport::{Proof, TcpFlags, Transport};
use crate::packet::{Packet, WriteError};

/// Bytes of the common header, section 3.1.
const HEADER: usize = 12;
/// Where the checksum stands in it.
const CHECKSUM: usize = 8;

/// Bytes of a chunk's header, section 3.2.
const CHUNK_HEADER: usize = 4;

/// Chunk types, section 3.2.
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const SHUTDOWN_COMPLETE: u8 = 14;

/// The polynomial of CRC32c, lowest power in the highest bit, as the checksum has it (appendix A).
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Ports of the header at `offset` of a packet that ends at `end`, and what its first chunk means in
/// TCP's words; `None` if it is cut short. Whatever a frame holds behind the packet is not read: the
/// checksum does not cover it.
#[inline(always)]
pub fn sctp<P: Packet + ?Sized>(packet: &mut P, offset: usize, end: u32) -> Option<Transport> {
    if end < (offset + HEADER + CHUNK_HEADER) as u32 {
        return None;
    }
    let [a, b, c, d, s, t, u, v, _, _, _, _, chunk, ..] =
        *packet.header::<{ HEADER + CHUNK_HEADER }>(offset)?;
    let flags = match chunk {
        INIT => TcpFlags::SYN,
        INIT_ACK => TcpFlags::SYN | TcpFlags::ACK,
        ABORT => TcpFlags::RST,
        SHUTDOWN | SHUTDOWN_ACK | SHUTDOWN_COMPLETE => TcpFlags::FIN,
        _ => 0,
    };
    let sequence = match chunk {
        INIT | INIT_ACK => initiate_tag(packet, offset, end),
        _ => u32::from_be_bytes([s, t, u, v]),
    };
    let proof = Proof { sequence, acknowledgment: 0 };
    Some((Ports([a, b, c, d]), TcpFlags(flags), proof))
}

/// The tag that the sender of an INIT or INIT ACK wants to see in what comes back (sections 3.3.2 and
/// 3.3.3); 0, which no sender may ask for, if it is cut short.
#[inline(always)]
fn initiate_tag<P: Packet + ?Sized>(packet: &mut P, offset: usize, end: u32) -> u32 {
    const LENGTH: usize = HEADER + CHUNK_HEADER + 4;
    if end < (offset + LENGTH) as u32 {
        return 0;
    }
    let Some(header) = packet.header::<LENGTH>(offset) else { return 0 };
    let [.., a, b, c, d] = *header;
    u32::from_be_bytes([a, b, c, d])
}

/// Lets the checksum of a packet of `length` bytes, whose header is at `offset`, follow a change of
/// its ports; both as words in the order of the packet's bytes, lowest first.
///
/// Zero is left alone: it stands in packets of which the device that sends them computes the
/// checksum. That it is the right one happens once in four billion packets.
///
/// # Errors
/// The header is not there.
#[inline(always)]
pub fn update_checksum<P: Packet + ?Sized>(
    packet: &mut P,
    offset: usize,
    length: u32,
    changed: u32,
) -> Result<(), WriteError> {
    if changed == 0 {
        return Ok(());
    }
    let shifted = shift(changed, length);
    let header = packet.header::<HEADER>(offset).ok_or(WriteError)?;
    let [.., a, b, c, d] = header;
    let before = u32::from_le_bytes([*a, *b, *c, *d]);
    if before != 0 {
        [*a, *b, *c, *d] = (before ^ shifted).to_le_bytes();
    }
    Ok(())
}

const _: () = assert!(CHECKSUM + 4 == HEADER);

/// `word` times x to the power of eight times `bytes`, below 65,536, modulo the polynomial: its CRC
/// where `bytes`, less its own four, zeroes follow it. One product for each hexadecimal digit of
/// `bytes`: the verifier walks through every step of this on every way that leads here.
#[inline(never)]
fn shift(word: u32, bytes: u32) -> u32 {
    let mut product = word;
    for (place, powers) in POWERS.iter().enumerate() {
        let digit = (bytes >> (4 * place)) as usize % powers.len();
        product = times(product, powers[digit]);
    }
    product
}

/// x to the power of eight times each digit at each place of a hexadecimal number, lowest place
/// first, modulo the polynomial.
static POWERS: [[u32; 16]; 4] = powers();

const fn powers() -> [[u32; 16]; 4] {
    // Bit 31 stands for the power of 0.
    let (mut powers, mut unit, mut place) = ([[1 << 31; 16]; 4], 1 << 23, 0);
    while place < powers.len() {
        let mut digit = 1;
        while digit < powers[place].len() {
            powers[place][digit] = times(powers[place][digit - 1], unit);
            digit += 1;
        }
        unit = times(powers[place][digit - 1], unit);
        place += 1;
    }
    powers
}

/// The product of two polynomials modulo the polynomial.
#[inline(always)]
const fn times(a: u32, b: u32) -> u32 {
    let (mut product, mut b, mut bit) = (0, b, 31);
    loop {
        product ^= b & 0u32.wrapping_sub((a >> bit) & 1);
        if bit == 0 {
            return product;
        }
        b = (b >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(b & 1));
        bit -= 1;
    }
}

/// The checksum of a whole packet, for tests and for who builds packets.
#[cfg(not(target_arch = "bpf"))]
#[must_use]
pub fn checksum(packet: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for (at, byte) in packet.iter().enumerate() {
        let byte = if (CHECKSUM..HEADER).contains(&at) { 0 } else { *byte };
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(crc & 1));
        }
    }
    (!crc).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_checksum_is_crc32c() {
        // RFC 3720, B.4: 32 bytes of ones. The header's own four bytes count as zero, so the
        // vector stands behind them, and zeroes in front of an all-ones start do not cancel.
        let mut packet = vec![0; 12];
        packet.extend([0xff; 20]);
        let crc = u32::from_le_bytes(checksum(&packet));
        let naive = packet.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 }
            })
        });
        assert_eq!(crc, !naive);
        let check = b"123456789".iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 }
            })
        });
        assert_eq!(!check, 0xe306_9283);
    }

    proptest! {
        #[test]
        fn a_changed_checksum_is_the_one_computed_anew(
            bytes in proptest::collection::vec(any::<u8>(), 16..9000),
            ports in any::<[u8; 4]>(),
        ) {
            let mut packet = bytes;
            let right = checksum(&packet);
            packet[8..12].copy_from_slice(&right);
            prop_assume!(right != [0; 4]);
            let before = u32::from_le_bytes(packet[..4].try_into().unwrap());
            packet[..4].copy_from_slice(&ports);
            let changed = before ^ u32::from_le_bytes(ports);
            let length = packet.len() as u32;
            update_checksum(&mut packet, 0, length, changed).unwrap();
            prop_assert_eq!(&packet[8..12], &checksum(&packet)[..]);
        }
    }
}
