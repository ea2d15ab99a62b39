//! Destroys connected UDP sockets of this node's processes whose backend is gone. No program sees a
//! datagram of a connected socket, so such a socket would go on sending to a pod that is gone; once it
//! is destroyed, its process gets `ECONNABORTED` and connects again. Sockets are listed and destroyed by
//! sock_diag(7), as `ss -K` does it. The backend that a socket was given stands in `UDP_CONNECTED`, for of
//! socket storage sock_diag shows TCP's alone.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use aya::maps::MapData;
use lb_common::address::Protocol;
use lb_common::maps::UDP_CONNECTED;
use lb_common::socket::UdpConnected;
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;

use crate::host::netlink;
use crate::host::syscall;
use crate::pins::{PinError, Pins};

/// `SOCK_DIAG_BY_FAMILY` and `SOCK_DESTROY`, `include/uapi/linux/sock_diag.h`.
const LIST: u16 = 20;
const DESTROY: u16 = 21;

/// `TCP_ESTABLISHED` as a bit, which for UDP is "connected".
const CONNECTED: u32 = 1 << 1;

/// Where `struct inet_diag_sockid` stands in `struct inet_diag_msg`, and how many bytes of
/// `struct inet_diag_req_v2` stand before it (`include/uapi/linux/inet_diag.h`).
const ID: std::ops::Range<usize> = 4..52;
const REQUEST: usize = 8;

/// The map of backends that connected UDP sockets were given.
#[derive(Debug)]
pub struct UdpSockets {
    map: MapData,
}

impl UdpSockets {
    /// Opens the map in `pins`.
    ///
    /// # Errors
    /// [`PinError::Map`]
    pub fn open(pins: &Pins) -> Result<Self, PinError> {
        let path = pins.map(&UDP_CONNECTED);
        match MapData::from_pin(&path) {
            Ok(map) => Ok(Self { map }),
            Err(error) => Err(PinError::Map { path, error }),
        }
    }

    /// Destroys the sockets for which `is_stale` returns true, and adds their number to `destroyed`. It is
    /// called for each with the backend that the socket was given, if that is known. The entries of those
    /// that stay are marked as used, so that the map evicts others first.
    ///
    /// # Errors
    /// The kernel's; some may be destroyed then, and are counted.
    pub fn destroy(
        &self,
        mut is_stale: impl FnMut(&Connected, Option<&UdpConnected>) -> bool,
        destroyed: &mut u64,
    ) -> io::Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            for socket in list(family as u8)? {
                let entry = self.entry(socket.cookie)?;
                if !is_stale(&socket, entry.as_ref()) {
                    self.mark_used(socket.cookie, entry.as_ref());
                } else if destroy(family as u8, &socket.id)? {
                    *destroyed += 1;
                }
            }
        }
        Ok(())
    }

    /// An entry that is written again counts as used; one that is gone meanwhile stays gone.
    fn mark_used(&self, cookie: u64, entry: Option<&UdpConnected>) {
        if let Some(entry) = entry {
            let _gone = syscall::replace(self.map.fd().as_fd(), &cookie, entry);
        }
    }

    fn entry(&self, cookie: u64) -> io::Result<Option<UdpConnected>> {
        match syscall::lookup(self.map.fd().as_fd(), &cookie) {
            Ok(entry) => Ok(Some(entry)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The UDP sockets of this network namespace that are connected.
fn list(family: u8) -> io::Result<Vec<Connected>> {
    let request = request(family, &[0; ID.end - ID.start]);
    let mut found = Vec::new();
    let read = |payload: &[u8]| found.extend(Connected::read(payload));
    netlink::request(NETLINK_SOCK_DIAG, LIST, libc::NLM_F_DUMP, &request, read)?;
    Ok(found)
}

/// Whether sockets can be listed and destroyed: both are tried on sockets that are not there.
///
/// # Errors
/// `ENOENT` without the module `udp_diag`, `EOPNOTSUPP` without `CONFIG_INET_DIAG_DESTROY`.
pub fn probe() -> io::Result<()> {
    list(libc::AF_INET as u8)?;
    destroy(libc::AF_INET as u8, &[0; ID.end - ID.start]).map(drop)
}

/// A socket that is connected.
#[derive(PartialEq, Debug)]
pub struct Connected {
    /// Its `struct inet_diag_sockid`.
    id: Vec<u8>,
    /// Its cookie, which no other socket ever has.
    pub cookie: u64,
    /// The address it is connected to; an IPv4-mapped one as IPv4.
    pub peer: SocketAddr,
}

impl Connected {
    /// `struct inet_diag_msg`.
    fn read(payload: &[u8]) -> Option<Self> {
        let id = payload.get(ID)?;
        let [high, low] = *id.get(2..)?.first_chunk()?;
        let address: [u8; 16] = *id.get(20..)?.first_chunk()?;
        let ip = match i32::from(*payload.first()?) {
            libc::AF_INET => IpAddr::from(*address.first_chunk::<4>()?),
            libc::AF_INET6 => Ipv6Addr::from(address).to_canonical(),
            _ => return None,
        };
        Some(Self {
            id: id.to_vec(),
            cookie: u64::from_ne_bytes(*id.get(40..)?.first_chunk()?),
            peer: SocketAddr::new(ip, u16::from_be_bytes([high, low])),
        })
    }
}

/// Destroys a socket; returns whether it was still there.
fn destroy(family: u8, id: &[u8]) -> io::Result<bool> {
    let request = request(family, id);
    match netlink::request(NETLINK_SOCK_DIAG, DESTROY, libc::NLM_F_ACK, &request, |_| {}) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `struct inet_diag_req_v2`: UDP sockets that are connected.
fn request(family: u8, id: &[u8]) -> Vec<u8> {
    let mut request = Vec::with_capacity(REQUEST + id.len());
    request.extend([family, Protocol::UDP.0, 0, 0]);
    request.extend(CONNECTED.to_ne_bytes());
    request.extend(id);
    request
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 5);

    /// What the kernel says of a socket that is connected to `peer`, port 53.
    fn message(family: i32, peer: &[u8]) -> Vec<u8> {
        let mut message = vec![0; 72];
        message[0] = family as u8;
        message[6..8].copy_from_slice(&53u16.to_be_bytes());
        message[24..24 + peer.len()].copy_from_slice(peer);
        message[44..52].copy_from_slice(&4711u64.to_ne_bytes());
        message
    }

    #[test]
    fn a_socket_is_read_with_its_peer_ipv4_mapped_or_not() {
        let mapped = POD.to_ipv6_mapped().octets();
        for (family, peer) in [(libc::AF_INET, &POD.octets()[..]), (libc::AF_INET6, &mapped)] {
            let socket = Connected::read(&message(family, peer)).unwrap();
            assert_eq!((socket.cookie, socket.peer), (4711, (POD, 53).into()));
        }
    }

    #[test]
    fn what_is_cut_short_or_of_another_family_is_no_socket() {
        let whole = message(libc::AF_INET, &POD.octets());
        for length in 0..ID.end {
            assert_eq!(Connected::read(&whole[..length]), None);
        }
        assert_eq!(Connected::read(&message(libc::AF_UNIX, &POD.octets())), None);
    }
}
