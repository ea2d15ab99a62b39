//! Echo requests (RFC 792, RFC 4443 section 4) over the kernel's own ping sockets, which write
//! identifier and checksum and verify those of replies.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Namespace;

/// Sends `address` an echo request with `length` bytes from within `namespace`, and checks that they
/// come back from it.
///
/// # Errors
/// If there is no reply within `timeout`, or another one.
pub fn ping(
    namespace: &Namespace,
    address: IpAddr,
    length: usize,
    timeout: Duration,
) -> Result<()> {
    // Allows root's group to open such sockets.
    namespace.set(&[("net/ipv4/ping_group_range", "0 0")])?;
    let (domain, protocol, request, reply) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let socket = namespace.run(|| Ok(Socket::new(domain, Type::DGRAM, Some(protocol))?))?;
    socket.connect(&SocketAddr::from((address, 0)).into())?;
    let socket = UdpSocket::from(OwnedFd::from(socket));
    socket.set_read_timeout(Some(timeout))?;
    // Type, code, checksum and identifier, which are the kernel's, and the sequence number.
    let mut message = vec![request, 0, 0, 0, 0, 0, 0, 1];
    message.extend((0..length).map(|at| at as u8));
    socket.send(&message)?;
    let mut response = vec![0; message.len() + 1];
    let received = socket
        .recv(&mut response)
        .with_context(|| format!("no reply from {address} to a ping of {length} bytes"))?;
    ensure!(
        received == message.len() && response[0] == reply && response[6..received] == message[6..],
        "{address} replied to a ping of {length} bytes with {:?}",
        &response[..received]
    );
    Ok(())
}
