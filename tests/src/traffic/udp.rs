//! UDP echo servers in pods, and clients that count what is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBufForce, UdpGsoSegment};

use super::tcp::{Response, canonical};
use super::timeout::TIMEOUT;
use crate::lab::Namespace;

/// How often a server checks whether it is to end.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How far a sender catches up that a busy machine has kept waiting: the kernel's queues would overflow with more.
const CATCH_UP: Duration = Duration::from_millis(100);

/// The largest payload of a UDP datagram, in bytes.
const LARGEST: usize = 65_507;

/// An echo server: it replies to each datagram with `NAME CLIENT`, a line feed, and the datagram.
#[derive(Debug)]
pub struct UdpServer {
    ending: Arc<AtomicBool>,
    echo: Option<JoinHandle<()>>,
}

impl UdpServer {
    /// Starts a server on every address of `namespace` that calls itself `name`.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn start(namespace: &Namespace, name: &str, port: u16) -> Result<Self> {
        Self::start_at(namespace, name, (Ipv6Addr::UNSPECIFIED, port).into())
    }

    /// The same at one address.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn start_at(namespace: &Namespace, name: &str, at: SocketAddr) -> Result<Self> {
        let socket = namespace.run(|| Ok(UdpSocket::bind(at)?))?;
        enlarge_buffer(&socket)?;
        socket.set_read_timeout(Some(POLL_INTERVAL))?;
        let ending = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ending);
        let name = name.to_owned();
        let echo = thread::spawn(move || {
            let mut datagram = vec![0; LARGEST];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, client)) = socket.recv_from(&mut datagram) {
                    let mut response = format!("{name} {}\n", canonical(client)).into_bytes();
                    response.extend_from_slice(&datagram[..length]);
                    let _ = socket.send_to(&response, client);
                }
            }
        });
        Ok(Self { ending, echo: Some(echo) })
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(echo) = self.echo.take() {
            let _ = echo.join();
        }
    }
}

/// Sends one datagram of `length` bytes from a socket of its own and waits for its echo.
///
/// # Errors
/// If there is no reply within [`TIMEOUT`], or it is not what was sent.
pub fn ask(namespace: &Namespace, server: SocketAddr, length: usize) -> Result<Response> {
    Caller::connect(namespace, server)?.exchange(length)
}

/// A client's socket, which may be used as long as one likes.
#[derive(Debug)]
pub struct Caller {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Caller {
    /// Makes a socket within `namespace` that is connected to `server`.
    ///
    /// # Errors
    /// If there is no route to the server.
    pub fn connect(namespace: &Namespace, server: SocketAddr) -> Result<Self> {
        Ok(Self { socket: connect(namespace, server)?, server })
    }

    /// Sends one datagram of `length` bytes and waits for its echo.
    ///
    /// # Errors
    /// If there is no reply within [`TIMEOUT`], or it is not what was sent.
    pub fn exchange(&self, length: usize) -> Result<Response> {
        self.exchange_within(TIMEOUT, length)
    }

    /// The same within another time.
    ///
    /// # Errors
    /// If there is no reply within `timeout`, or it is not what was sent.
    pub fn exchange_within(&self, timeout: Duration, length: usize) -> Result<Response> {
        let Self { socket, server } = self;
        socket.set_read_timeout(Some(timeout))?;
        let sent = vec![0x5a; length];
        socket.send(&sent).with_context(|| format!("cannot send {length} bytes to {server}"))?;
        let mut datagram = vec![0; LARGEST];
        let received = socket
            .recv(&mut datagram)
            .with_context(|| format!("no echo of {length} bytes from {server} in {timeout:?}"))?;
        let (pod, client, payload) = read_echo(&datagram[..received])?;
        ensure!(payload == sent, "{length} bytes came back from {server} changed");
        Ok(Response { pod, client, own: canonical(socket.local_addr()?) })
    }
}

impl Caller {
    /// Sends `count` datagrams of `length` bytes, at most 65,000 together, in one call, which the kernel
    /// cuts (`UDP_SEGMENT`), so that they travel close together; and waits until each has come back.
    ///
    /// # Errors
    /// If one does not within [`TIMEOUT`], comes twice or is not what was sent.
    pub fn exchange_burst(&self, count: u16, length: u16) -> Result<()> {
        let Self { socket, server } = self;
        let datagram = |number: u16| {
            let mut bytes = vec![0x5a; usize::from(length)];
            bytes.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, number)| *byte = number);
            bytes
        };
        let mut awaited: BTreeSet<Vec<u8>> = (0..count).map(datagram).collect();
        setsockopt(socket, UdpGsoSegment, &i32::from(length))?;
        let sent: Vec<u8> = awaited.iter().flatten().copied().collect();
        socket.send(&sent).with_context(|| format!("cannot send to {server}"))?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        let mut datagram = vec![0; LARGEST];
        while !awaited.is_empty() {
            let left = awaited.len();
            let received = socket.recv(&mut datagram).with_context(|| {
                format!("{left} of {count} datagrams of {length} bytes did not come back")
            })?;
            let (_, _, payload) = read_echo(&datagram[..received])?;
            ensure!(awaited.remove(payload), "{payload:02x?} came back from {server}");
        }
        Ok(())
    }
}

/// How many datagrams were sent and came back.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Datagrams sent.
    pub sent: u32,
    /// How many of them came back, by the pod that sent them back.
    pub responses: BTreeMap<String, u32>,
}

impl Tally {
    /// Datagrams that did not come back.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.sent.saturating_sub(self.responses.values().sum())
    }
}

/// Sends a datagram every `interval` over one socket until `done` says so, and counts the echoes.
///
/// # Errors
/// If the socket cannot be made, or an echo is not what was sent.
pub fn tick(
    namespace: &Namespace,
    server: SocketAddr,
    interval: Duration,
    done: impl Fn() -> bool + Send + Sync,
) -> Result<Tally> {
    let socket = connect(namespace, server)?;
    let sending = AtomicBool::new(true);
    thread::scope(|scope| {
        let counter = scope.spawn(|| count_echoes(&socket, &sending));
        let sent = send_ticks(&socket, interval, &done);
        sending.store(false, Ordering::Relaxed);
        let responses = match counter.join() {
            Ok(responses) => responses?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok(Tally { sent: sent?, responses })
    })
}

/// Sends requests over one socket, each once the reply to the one before has come, until `done` says
/// so. Replies to requests in flight while a flow moves to another pod are lost with the old pod's
/// entries, as with kube-proxy; a client that waits for each reply loses none.
///
/// # Errors
/// If the socket cannot be made, or a reply is not to the last request.
pub fn converse(
    namespace: &Namespace,
    server: SocketAddr,
    done: impl Fn() -> bool,
) -> Result<Tally> {
    let socket = connect(namespace, server)?;
    let mut tally = Tally { sent: 0, responses: BTreeMap::new() };
    let mut datagram = [0; 256];
    while !done() {
        let request = tally.sent.to_be_bytes();
        socket.send(&request)?;
        tally.sent += 1;
        let length = socket.recv(&mut datagram).with_context(|| format!("no reply: {tally:?}"))?;
        let (pod, _, payload) = read_echo(&datagram[..length])?;
        ensure!(payload == request, "{pod} replied to another request: {tally:?}");
        *tally.responses.entry(pod).or_default() += 1;
    }
    Ok(tally)
}

fn send_ticks(socket: &UdpSocket, interval: Duration, done: &impl Fn() -> bool) -> Result<u32> {
    let mut next = Instant::now();
    let mut sent: u32 = 0;
    while !done() {
        // A refusal is about an earlier datagram, which the tally counts as lost.
        match socket.send(&sent.to_be_bytes()) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error.into()),
        }
        sent += 1;
        next = (next + interval).max(Instant::now() - CATCH_UP);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(sent)
}

/// Counts echoes while more are being sent, and then until none has come for a second.
fn count_echoes(socket: &UdpSocket, sending: &AtomicBool) -> Result<BTreeMap<String, u32>> {
    socket.set_read_timeout(Some(POLL_INTERVAL))?;
    let mut responses = BTreeMap::new();
    let mut seen = std::collections::HashSet::new();
    let mut last = Instant::now();
    let mut datagram = [0; 256];
    while sending.load(Ordering::Relaxed) || last.elapsed() < Duration::from_secs(1) {
        match socket.recv(&mut datagram) {
            Ok(length) => {
                let (pod, _, payload) = read_echo(&datagram[..length])?;
                ensure!(seen.insert(payload.to_vec()), "{pod} sent a datagram back twice");
                *responses.entry(pod).or_default() += 1;
                last = Instant::now();
            }
            Err(error) if is_no_reply(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(responses)
}

/// Whether `error` only means that nothing has come, or that the server was not there a moment ago.
fn is_no_reply(error: &std::io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, TimedOut, WouldBlock};
    [ConnectionRefused, TimedOut, WouldBlock].contains(&error.kind())
}

fn connect(namespace: &Namespace, server: SocketAddr) -> Result<UdpSocket> {
    let socket = namespace.run(|| {
        let own: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(own)?;
        socket.connect(server)?;
        Ok(socket)
    })?;
    enlarge_buffer(&socket)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    Ok(socket)
}

/// Gives the socket a buffer for seconds of datagrams, so that what a busy machine reads late is not
/// counted as lost.
fn enlarge_buffer(socket: &UdpSocket) -> Result<()> {
    const BYTES: usize = 16 << 20;
    Ok(setsockopt(socket, RcvBufForce, &BYTES)?)
}

/// Pod, client and payload of an echo.
fn read_echo(datagram: &[u8]) -> Result<(String, SocketAddr, &[u8])> {
    let Some(end) = datagram.iter().position(|&byte| byte == b'\n') else {
        bail!("an echo without a first line");
    };
    let line = std::str::from_utf8(&datagram[..end])?;
    let (pod, client) = line.split_once(' ').context("an echo that names no client")?;
    Ok((pod.to_owned(), client.parse()?, &datagram[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_names_pod_and_client() {
        let (pod, client, payload) = read_echo(b"web-1 [fd00::1]:5\nabc").unwrap();
        assert_eq!((pod.as_str(), payload), ("web-1", b"abc".as_slice()));
        assert_eq!(client, "[fd00::1]:5".parse().unwrap());
        assert!(read_echo(b"abc").is_err());
    }

    #[test]
    fn what_did_not_come_back_is_lost() {
        let tally =
            Tally { sent: 5, responses: BTreeMap::from([("a".into(), 2), ("b".into(), 1)]) };
        assert_eq!(tally.lost(), 2);
    }
}
