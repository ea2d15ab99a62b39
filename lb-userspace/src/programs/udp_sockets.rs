//! UDP sockets of this node's processes that are connected: no program sees their datagrams. The kernel is
//! asked for them as `ss` asks it (sock_diag(7)); what a socket was connected to in the place of a
//! frontend stands in `DIALLED`, for what is kept with sockets the kernel tells of TCP's alone.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;

use aya::maps::MapData;
use lb_common::address::Protocol;
use lb_common::maps::DIALLED;
use lb_common::socket::Dialled;
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;

use super::netlink;
use super::pins::{PinError, Pins};
use crate::syscall;

/// `SOCK_DIAG_BY_FAMILY` and `SOCK_DESTROY`, `include/uapi/linux/sock_diag.h`.
const LIST: u16 = 20;
const DESTROY: u16 = 21;

/// `TCP_ESTABLISHED` as a bit, which for UDP is "connected".
const CONNECTED: u32 = 1 << 1;

/// Where `struct inet_diag_sockid` stands in `struct inet_diag_msg`, and how many bytes of
/// `struct inet_diag_req_v2` stand before it (`include/uapi/linux/inet_diag.h`).
const ID: std::ops::Range<usize> = 4..52;
const REQUEST: usize = 8;

/// The map of what sockets were connected to in the place of frontends.
#[derive(Debug)]
pub struct UdpSockets {
    dialled: MapData,
}

/// A UDP socket that is connected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connected {
    /// Where it sends.
    pub peer: (IpAddr, u16),
    /// What it was connected to in the place of a frontend, if it was; it may have been connected
    /// elsewhere since.
    pub dialled: Option<Dialled>,
    family: u8,
    /// By which the kernel finds it again.
    id: Vec<u8>,
}

impl UdpSockets {
    /// Opens the map in `pins`.
    ///
    /// # Errors
    /// [`PinError::Map`]
    pub fn open(pins: &Pins) -> Result<Self, PinError> {
        let path = pins.map(&DIALLED);
        match MapData::from_pin(&path) {
            Ok(dialled) => Ok(Self { dialled }),
            Err(error) => Err(PinError::Map { path, error }),
        }
    }

    /// Those of this network namespace, in both families.
    ///
    /// # Errors
    /// The kernel's.
    pub fn connected(&self) -> io::Result<Vec<Connected>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let question = request(family as u8, &[0; ID.end - ID.start]);
            let hear = |payload: &[u8]| found.extend(Connected::read(payload));
            netlink::ask(NETLINK_SOCK_DIAG, LIST, libc::NLM_F_DUMP, &question, hear)?;
        }
        for socket in &mut found {
            socket.dialled = self.dialled(socket.cookie())?;
        }
        Ok(found)
    }

    fn dialled(&self, cookie: u64) -> io::Result<Option<Dialled>> {
        match syscall::lookup(self.dialled.fd().as_fd(), &cookie) {
            Ok(dialled) => Ok(Some(dialled)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Connected {
    /// `struct inet_diag_msg`.
    fn read(payload: &[u8]) -> Option<Self> {
        let id = payload.get(ID)?;
        let [high, low] = *id.get(2..)?.first_chunk()?;
        let address: [u8; 16] = *id.get(20..)?.first_chunk()?;
        let family = *payload.first()?;
        let ip = match i32::from(family) {
            libc::AF_INET => IpAddr::from(*address.first_chunk::<4>()?),
            libc::AF_INET6 => Ipv6Addr::from(address).to_canonical(),
            _ => return None,
        };
        let peer = (ip, u16::from_be_bytes([high, low]));
        Some(Self { peer, dialled: None, family, id: id.to_vec() })
    }

    /// Both halves of the cookie stand at the id's end.
    fn cookie(&self) -> u64 {
        self.id.last_chunk().map_or(0, |cookie| u64::from_ne_bytes(*cookie))
    }

    /// Ends the socket: its process is told `ECONNABORTED`. Returns whether it was there still.
    ///
    /// # Errors
    /// The kernel's.
    pub fn end(&self) -> io::Result<bool> {
        let question = request(self.family, &self.id);
        match netlink::ask(NETLINK_SOCK_DIAG, DESTROY, libc::NLM_F_ACK, &question, |_| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
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
    use super::*;

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
    fn a_socket_is_read_with_whom_it_speaks_to_and_its_cookie() {
        let mapped = std::net::Ipv4Addr::new(10, 244, 0, 5).to_ipv6_mapped().octets();
        for (family, peer) in [(libc::AF_INET, &[10, 244, 0, 5][..]), (libc::AF_INET6, &mapped)] {
            let socket = Connected::read(&message(family, peer)).unwrap();
            assert_eq!(socket.peer, ([10, 244, 0, 5].into(), 53));
            assert_eq!(socket.cookie(), 4711);
        }
    }

    #[test]
    fn what_is_cut_short_or_of_another_family_is_no_socket() {
        let whole = message(libc::AF_INET, &[10, 244, 0, 5]);
        for length in 0..ID.end {
            assert_eq!(Connected::read(&whole[..length]), None);
        }
        assert_eq!(Connected::read(&message(libc::AF_UNIX, &[10, 244, 0, 5])), None);
    }
}
