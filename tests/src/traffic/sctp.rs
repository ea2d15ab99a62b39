//! SCTP (RFC 9260) without the kernel's: packets written by hand over raw sockets, with the checksum
//! of each verified where it arrives.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lb_ebpf::wire::sctp::checksum;
use socket2::{Domain, Socket, Type};

use super::timeout::TIMEOUT;
use crate::lab::Namespace;

/// Bytes of the common header, section 3.1.
const HEADER: usize = 12;

/// Bytes of a chunk's own header, section 3.2.
const CHUNK: usize = 4;

/// What a client sends, and the reply to it: an association is opened, used and closed
/// (chunk types of section 3.2).
const DIALOGUE: [(u8, u8); 4] = [
    (1, 2),   // INIT, INIT ACK
    (10, 11), // COOKIE ECHO, COOKIE ACK
    (0, 3),   // DATA, SACK
    (7, 8),   // SHUTDOWN, SHUTDOWN ACK
];

/// A packet of one chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Packet {
    source_port: u16,
    destination_port: u16,
    chunk: u8,
    value: Vec<u8>,
}

/// Replies to SCTP packets in a pod: to each chunk its counterpart, with the pod's name, a space, and the
/// client's address and port as it saw them.
#[derive(Debug)]
pub struct SctpServer {
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl SctpServer {
    /// Starts a server on every address of `namespace` that calls itself `name`.
    ///
    /// # Errors
    /// If this user may not open raw sockets.
    pub fn start(namespace: &Namespace, name: &str, port: u16) -> Result<Self> {
        let ending = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for domain in [Domain::IPV4, Domain::IPV6] {
            let socket = open(namespace, domain, Duration::from_millis(50))?;
            let (stop, name) = (Arc::clone(&ending), name.to_owned());
            threads.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // A malformed packet gets no reply, and its client reports that.
                    if let Ok(Some((request, client))) = receive(&socket)
                        && request.destination_port == port
                    {
                        let _ = reply(&socket, &name, &request, client);
                    }
                }
            }));
        }
        Ok(Self { ending, threads })
    }
}

impl Drop for SctpServer {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn reply(socket: &UdpSocket, name: &str, request: &Packet, client: IpAddr) -> Result<()> {
    let counterpart = DIALOGUE.iter().find(|(asked, _)| *asked == request.chunk);
    let (_, chunk) = *counterpart.context("a chunk of no dialogue")?;
    let client = SocketAddr::from((client, request.source_port));
    let value = format!("{name} {client}").into_bytes();
    let response = Packet {
        source_port: request.destination_port,
        destination_port: request.source_port,
        chunk,
        value,
    };
    response.send(socket, client)
}

/// Opens an association from port `own` within `namespace`, uses and closes it, and returns which
/// pod replied, the same throughout, and the client's address and port as the server saw them.
///
/// # Errors
/// If there is no reply within [`TIMEOUT`], or a wrong one.
pub fn associate(
    namespace: &Namespace,
    own: u16,
    server: SocketAddr,
) -> Result<(String, SocketAddr)> {
    let socket = open(namespace, Domain::for_address(server), TIMEOUT)?;
    let mut replied = None;
    for (asked, expected) in DIALOGUE {
        let request = Packet {
            source_port: own,
            destination_port: server.port(),
            chunk: asked,
            value: vec![0x5a; 1000],
        };
        request.send(&socket, server)?;
        let value = response_to(&request, expected, &socket, server)
            .with_context(|| format!("chunk {asked} from port {own} to {server}"))?;
        let first = replied.get_or_insert_with(|| value.clone());
        ensure!(*first == value, "{value} replied, and before it {first}");
    }
    let replied = replied.context("a dialogue without a reply")?;
    let (pod, client) = replied.split_once(' ').context("a reply that names no client")?;
    Ok((pod.to_owned(), client.parse()?))
}

/// Waits for the reply; a raw socket receives every packet of its protocol.
fn response_to(
    request: &Packet,
    chunk: u8,
    socket: &UdpSocket,
    server: SocketAddr,
) -> Result<String> {
    let deadline = Instant::now() + TIMEOUT;
    while Instant::now() < deadline {
        let Some((response, from)) = receive(socket)? else { continue };
        if response.destination_port == request.source_port && from == server.ip() {
            ensure!(response.source_port == server.port(), "{response:?} from another port");
            ensure!(response.chunk == chunk, "{response:?} instead of chunk {chunk}");
            return Ok(String::from_utf8(response.value)?);
        }
    }
    bail!("no reply within {TIMEOUT:?}")
}

/// A raw socket, which is read and written like one of UDP.
fn open(namespace: &Namespace, domain: Domain, timeout: Duration) -> Result<UdpSocket> {
    const SCTP: i32 = 132;
    let socket = namespace.run(|| Ok(Socket::new(domain, Type::RAW, Some(SCTP.into()))?))?;
    let socket = UdpSocket::from(OwnedFd::from(socket));
    socket.set_read_timeout(Some(timeout))?;
    Ok(socket)
}

/// The next packet and its source; `None` if there is none for a while.
fn receive(socket: &UdpSocket) -> Result<Option<(Packet, IpAddr)>> {
    let mut buffer = [0; 2048];
    let (length, from) = match socket.recv_from(&mut buffer) {
        Ok(received) => received,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (bytes, from) = (&buffer[..length], from.ip());
    // Raw sockets give IPv4's header, too, and not IPv6's.
    let header = match from {
        IpAddr::V4(_) => 4 * usize::from(bytes.first().copied().unwrap_or_default() & 0xf),
        IpAddr::V6(_) => 0,
    };
    let packet = Packet::read(bytes.get(header..).context("a header cut short")?)?;
    Ok(Some((packet, from)))
}

impl Packet {
    fn send(&self, socket: &UdpSocket, to: SocketAddr) -> Result<()> {
        let mut bytes = Vec::from(self.source_port.to_be_bytes());
        bytes.extend(self.destination_port.to_be_bytes());
        // The verification tag, which is not verified, and space for the checksum.
        bytes.extend([1, 2, 3, 4, 0, 0, 0, 0]);
        bytes.extend([self.chunk, 0]);
        bytes.extend(u16::try_from(CHUNK + self.value.len())?.to_be_bytes());
        bytes.extend(&self.value);
        let checksum = checksum(&bytes);
        bytes[HEADER - 4..HEADER].copy_from_slice(&checksum);
        // Raw sockets of IPv6 take no port.
        socket.send_to(&bytes, (to.ip(), 0))?;
        Ok(())
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        let [a, b, c, d, _, _, _, _, e, f, g, h, chunk, _, i, j, value @ ..] = bytes else {
            bail!("{bytes:?} is too short for SCTP");
        };
        ensure!(checksum(bytes) == [*e, *f, *g, *h], "the checksum of {bytes:?} is wrong");
        let length = usize::from(u16::from_be_bytes([*i, *j]));
        ensure!(length == CHUNK + value.len(), "a chunk of {length} bytes in {bytes:?}");
        Ok(Self {
            source_port: u16::from_be_bytes([*a, *b]),
            destination_port: u16::from_be_bytes([*c, *d]),
            chunk: *chunk,
            value: value.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_with_another_checksum_is_not_read() {
        let mut bytes = vec![0, 80, 31, 144, 1, 2, 3, 4, 0, 0, 0, 0, 1, 0, 0, 5, 9];
        assert!(Packet::read(&bytes).is_err());
        let checksum = checksum(&bytes);
        bytes[8..12].copy_from_slice(&checksum);
        let packet = Packet::read(&bytes).unwrap();
        let expected = Packet { source_port: 80, destination_port: 8080, chunk: 1, value: vec![9] };
        assert_eq!(packet, expected);
    }
}
