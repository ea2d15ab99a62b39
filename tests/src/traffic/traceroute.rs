//! What traceroute does: datagrams with a TTL of one, two and so on, and who sends the ICMP errors.

use std::io::{ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};

use super::timeout::TIMEOUT;
use crate::lab::Namespace;

/// The end of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hop {
    /// Its TTL expired at this router.
    Expired(IpAddr),
    /// This host sent port unreachable.
    Unreachable(IpAddr),
    /// The server replied.
    Replied,
}

/// Traces the route to `server` from within `namespace` to its end. All is sent from one socket, which
/// receives errors about its own datagrams alone.
///
/// # Errors
/// If there is neither reply nor error, or the end is not reached within ten hops.
pub fn traceroute(namespace: &Namespace, server: SocketAddr) -> Result<Vec<Hop>> {
    let socket = namespace.run(|| open(server))?;
    let mut hops = Vec::new();
    for ttl in 1..=10 {
        set_ttl(&socket, server, ttl)?;
        let hop =
            step(&socket).with_context(|| format!("hop {ttl} to {server}, after {hops:?}"))?;
        hops.push(hop);
        if !matches!(hop, Hop::Expired(_)) {
            return Ok(hops);
        }
    }
    bail!("the route to {server} has no end: {hops:?}")
}

fn open(server: SocketAddr) -> Result<UdpSocket> {
    let own: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((own, 0))?;
    match server {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    socket.connect(server)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    Ok(socket)
}

fn set_ttl(socket: &UdpSocket, server: SocketAddr, hops: i32) -> Result<()> {
    match server {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4Ttl, &hops)?,
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6Ttl, &hops)?,
    }
    Ok(())
}

/// Sends one datagram and waits for a reply or an error.
fn step(socket: &UdpSocket) -> Result<Hop> {
    socket.send(b"traced")?;
    let Err(error) = socket.recv(&mut [0; 256]) else {
        return Ok(Hop::Replied);
    };
    if error.kind() == ErrorKind::ConnectionRefused {
        Ok(Hop::Unreachable(icmp_sender(socket)?))
    } else if error.kind() == ErrorKind::HostUnreachable {
        Ok(Hop::Expired(icmp_sender(socket)?))
    } else {
        Err(error).context("neither a reply nor an ICMP error")
    }
}

/// The sender of the last ICMP error, see `IP_RECVERR` in ip(7).
fn icmp_sender(socket: &UdpSocket) -> Result<IpAddr> {
    let mut datagram = [0; 256];
    let mut quoted = [IoSliceMut::new(&mut datagram)];
    let mut space = cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut quoted, Some(&mut space), MsgFlags::MSG_ERRQUEUE)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::Ipv4RecvErr(_, Some(icmp_sender)) = control {
            return Ok(Ipv4Addr::from(u32::from_be(icmp_sender.sin_addr.s_addr)).into());
        }
        if let ControlMessageOwned::Ipv6RecvErr(_, Some(icmp_sender)) = control {
            return Ok(Ipv6Addr::from(icmp_sender.sin6_addr.s6_addr).into());
        }
    }
    bail!("an error without a sender");
}
