//! The cookies by which programs know a network namespace and a socket.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use super::socket_option::get;

/// The cookie of our network namespace, by which programs know it.
///
/// # Errors
/// Those of getsockopt(2): `ENOPROTOOPT` before Linux 5.14.
pub fn namespace_cookie() -> io::Result<u64> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
        .or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
    let mut cookie = [0; 8];
    get(&socket, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, &mut cookie)?;
    Ok(u64::from_ne_bytes(cookie))
}

/// The cookie of a socket, by which programs know it.
///
/// # Errors
/// Those of getsockopt(2).
pub fn socket_cookie(socket: &UdpSocket) -> io::Result<u64> {
    let mut cookie = [0; 8];
    get(socket, libc::SOL_SOCKET, libc::SO_COOKIE, &mut cookie)?;
    Ok(u64::from_ne_bytes(cookie))
}
