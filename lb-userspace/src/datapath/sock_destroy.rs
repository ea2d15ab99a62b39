//! UDP sockets of this node's processes that are connected where nobody serves any more. No program
//! sees a datagram of a connected socket, so such a socket would go on sending to a pod that is gone;
//! here it is ended, its process is told so (`ECONNABORTED`), and dials again. The kernel is asked as
//! `ss` asks it (sock_diag(7)); what a socket was connected to in the place of a frontend stands in
//! `UDP_CONNECTED`, for what is kept with sockets the kernel tells of TCP's alone.

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

/// The map of what sockets were connected to in the place of frontends.
#[derive(Debug)]
pub struct UdpSockets {
    dialled: MapData,
}

impl UdpSockets {
    /// Opens the map in `pins`.
    ///
    /// # Errors
    /// [`PinError::Map`]
    pub fn open(pins: &Pins) -> Result<Self, PinError> {
        let path = pins.map(&UDP_CONNECTED);
        match MapData::from_pin(&path) {
            Ok(dialled) => Ok(Self { dialled }),
            Err(error) => Err(PinError::Map { path, error }),
        }
    }

    /// Ends the sockets that `is_stranded` says so of, and adds their number to `ended`. It is asked
    /// for each with where it was connected in the place of a frontend, if that is known. What is known
    /// of those that stay is marked as used: of all that ever dialled the map forgets others first.
    ///
    /// # Errors
    /// The kernel's; some may be ended then, and are counted.
    pub fn end(
        &self,
        mut is_stranded: impl FnMut(&Connected, Option<&UdpConnected>) -> bool,
        ended: &mut u64,
    ) -> io::Result<()> {
        for family in [libc::AF_INET, libc::AF_INET6] {
            for socket in list(family as u8)? {
                let dialled = self.dialled(socket.cookie)?;
                if !is_stranded(&socket, dialled.as_ref()) {
                    self.mark(socket.cookie, dialled.as_ref());
                } else if destroy(family as u8, &socket.id)? {
                    *ended += 1;
                }
            }
        }
        Ok(())
    }

    /// An entry that is written again counts as used; one that is gone meanwhile is not made anew.
    fn mark(&self, cookie: u64, dialled: Option<&UdpConnected>) {
        if let Some(dialled) = dialled {
            let _gone = syscall::replace(self.dialled.fd().as_fd(), &cookie, dialled);
        }
    }

    fn dialled(&self, cookie: u64) -> io::Result<Option<UdpConnected>> {
        match syscall::lookup(self.dialled.fd().as_fd(), &cookie) {
            Ok(dialled) => Ok(Some(dialled)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The UDP sockets of this network namespace that are connected.
fn list(family: u8) -> io::Result<Vec<Connected>> {
    let question = request(family, &[0; ID.end - ID.start]);
    let mut found = Vec::new();
    let hear = |payload: &[u8]| found.extend(Connected::read(payload));
    netlink::ask(NETLINK_SOCK_DIAG, LIST, libc::NLM_F_DUMP, &question, hear)?;
    Ok(found)
}

/// Whether sockets can be listed and ended: both are asked of sockets that are not there.
///
/// # Errors
/// The kernel's answer: `ENOENT` without the module `udp_diag`, `EOPNOTSUPP` if it was built to end none.
pub fn try_ending() -> io::Result<()> {
    list(libc::AF_INET as u8)?;
    destroy(libc::AF_INET as u8, &[0; ID.end - ID.start]).map(drop)
}

/// A socket that is connected.
#[derive(PartialEq, Debug)]
pub struct Connected {
    /// By which the kernel finds it again.
    id: Vec<u8>,
    /// Its number, which no other socket ever has.
    pub cookie: u64,
    /// Where it sends: IPv4 as such, whatever the socket's family.
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

/// Ends a socket; returns whether it was there still.
fn destroy(family: u8, id: &[u8]) -> io::Result<bool> {
    let question = request(family, id);
    match netlink::ask(NETLINK_SOCK_DIAG, DESTROY, libc::NLM_F_ACK, &question, |_| {}) {
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
    fn a_socket_is_read_with_its_peer_whatever_clothes_that_wears() {
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
