//! The packet that is traced: built by etherparse, parsed by the datapath's own parser.

use std::io;
use std::net::SocketAddr;

use etherparse::{IpNumber, PacketBuilder};
use lb_common::address::{Address, Family, Protocol, Tuple, endpoint};
use lb_ebpf::wire::{Headers, IpVersion, Ipv4, Ipv6, family};

/// Its TTL or hop limit, as Linux sends it.
const HOPS: u8 = 64;

/// A packet without payload; of TCP and SCTP, the one that opens a connection or one of an open connection.
///
/// # Errors
///
/// The addresses are of different families.
pub fn frame(
    from: SocketAddr,
    to: SocketAddr,
    protocol: Protocol,
    opens: bool,
) -> io::Result<Vec<u8>> {
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            link.ipv4(from.ip().octets(), to.ip().octets(), HOPS)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            link.ipv6(from.ip().octets(), to.ip().octets(), HOPS)
        }
        (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => {
            return Err(io::Error::other("one end is IPv4 and the other IPv6"));
        }
    };
    let mut bytes = Vec::new();
    let written = if protocol == Protocol::SCTP {
        ip.write(&mut bytes, IpNumber::SCTP, &sctp(from.port(), to.port(), opens))
    } else if protocol == Protocol::UDP {
        ip.udp(from.port(), to.port()).write(&mut bytes, &[])
    } else {
        let tcp = ip.tcp(from.port(), to.port(), 1, 65_535);
        let tcp = if opens { tcp.syn() } else { tcp.ack(1) };
        tcp.write(&mut bytes, &[])
    };
    written.map_err(io::Error::other)?;
    Ok(bytes)
}

/// A common header and the header of one chunk, INIT or DATA (RFC 9260, 3.1 and 3.2). Its checksum is
/// zero, as that of packets which a device completes.
fn sctp(from: u16, to: u16, opens: bool) -> Vec<u8> {
    let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
    let (tag_and_checksum, chunk) = ([0; 8], [u8::from(opens), 0, 0, 4]);
    [&ports[..], &tag_and_checksum, &chunk].concat()
}

/// Source and destination of a packet, or `None` if it has no ports that Weir reads.
pub fn ends(frame: &mut Vec<u8>) -> Option<(SocketAddr, SocketAddr)> {
    match family(frame)? {
        Family::V4 => read::<Ipv4>(frame),
        Family::V6 => read::<Ipv6>(frame),
    }
}

fn read<V: IpVersion>(frame: &mut Vec<u8>) -> Option<(SocketAddr, SocketAddr)> {
    let mut headers = Headers::<V::Address>::empty();
    V::parse(frame, &mut headers).ok()?;
    let Tuple { source, source_port, destination, destination_port, .. } = headers.tuple;
    Some((endpoint(source.to_ip(), source_port), endpoint(destination.to_ip(), destination_port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_made_reads_back_in_both_families_and_protocols() {
        for (from, to) in
            [("10.0.0.9:40000", "10.96.0.1:80"), ("[fd00::9]:40000", "[fd00:96::1]:53")]
        {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            for protocol in [Protocol::TCP, Protocol::UDP] {
                let mut bytes = frame(from, to, protocol, true).unwrap();
                assert_eq!(ends(&mut bytes), Some((from, to)));
            }
        }
    }
}
