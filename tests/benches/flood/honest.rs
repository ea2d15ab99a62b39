//! Honest clients during a flood: established flows that are used again and again, and new connections.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
use socket2::SockRef;
use weir_tests::lab::Namespace;

/// After so long a datagram or its reply is lost, and a connection has not been made: before TCP would
/// send a SYN again.
const LOST_AFTER: Duration = Duration::from_millis(900);

/// Requests a second over established flows of one protocol: they leave the processors to the flood.
const PER_SECOND: u32 = 2000;

/// What became of requests.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    /// Requests.
    pub asked: u64,
    /// Those that got no reply.
    pub lost: u64,
}

/// Established flows over UDP.
pub struct Datagrams(Vec<UdpSocket>);

impl Datagrams {
    /// Flows to `to`, each used until it is established.
    pub fn establish(namespace: &Namespace, to: SocketAddr, flows: u32) -> Result<Self> {
        let sockets = namespace.run(|| {
            let open = |_| {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
                socket.connect(to)?;
                socket.set_read_timeout(Some(LOST_AFTER))?;
                for _ in 0..3 {
                    socket.send(b"?")?;
                    socket.recv(&mut [0; 64])?;
                }
                Ok(socket)
            };
            (0..flows).map(open).collect::<Result<Vec<_>>>()
        })?;
        Ok(Self(sockets))
    }

    /// Asks over each, again and again, until `stop`.
    pub fn ask(&self, stop: &AtomicBool) -> Result<Tally> {
        let (mut tally, begun) = (Tally::default(), Instant::now());
        for socket in self.0.iter().cycle() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            pace(begun, tally.asked, PER_SECOND);
            tally.asked += 1;
            socket.send(b"?")?;
            if socket.recv(&mut [0; 64]).is_err() {
                tally.lost += 1;
            }
        }
        Ok(tally)
    }
}

/// Established TCP connections.
pub struct Connections(Vec<TcpStream>);

impl Connections {
    /// Connections to `to`.
    pub fn establish(namespace: &Namespace, to: SocketAddr, flows: u32) -> Result<Self> {
        let streams = namespace.run(|| {
            let open = |_| {
                let mut stream = TcpStream::connect(to)?;
                stream.set_nodelay(true)?;
                setsockopt(&stream, TcpUserTimeout, &10_000)?;
                ask(&mut stream)?;
                Ok(stream)
            };
            (0..flows).map(open).collect::<Result<Vec<_>>>()
        })?;
        Ok(Self(streams))
    }

    /// Asks over each, again and again, until `stop`. What was lost on the way TCP has sent again: the caller
    /// asks the kernel.
    pub fn ask(&mut self, stop: &AtomicBool) -> Result<Tally> {
        let (mut tally, begun) = (Tally::default(), Instant::now());
        while !stop.load(Ordering::Relaxed) {
            for stream in &mut self.0 {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                pace(begun, tally.asked, PER_SECOND);
                tally.asked += 1;
                ask(stream).context("an established connection has ended")?;
            }
        }
        Ok(tally)
    }
}

/// Opens `per_second` connections to `to` until `stop`, a request over each.
pub fn open(
    namespace: &Namespace,
    to: SocketAddr,
    per_second: u32,
    stop: &AtomicBool,
) -> Result<Tally> {
    namespace.run(|| {
        let begun = Instant::now();
        let mut tally = Tally::default();
        while !stop.load(Ordering::Relaxed) {
            pace(begun, tally.asked, per_second);
            tally.asked += 1;
            if open_one(to).is_err() {
                tally.lost += 1;
            }
        }
        Ok(tally)
    })
}

/// Waits until the next of `per_second` is due, `asked` of which have been since `begun`.
fn pace(begun: Instant, asked: u64, per_second: u32) {
    let due = Duration::from_secs_f64(asked as f64 / f64::from(per_second));
    if let Some(early) = due.checked_sub(begun.elapsed()) {
        thread::sleep(early);
    }
}

fn open_one(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, LOST_AFTER)?;
    stream.set_read_timeout(Some(LOST_AFTER))?;
    // Without time to wait for packets that are late, or ports would run out.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    ask(&mut stream)
}

fn ask(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"?")?;
    Ok(stream.read_exact(&mut [0])?)
}

/// Segments that TCP has sent again in `namespace`.
pub fn sent_again(namespace: &Namespace) -> Result<u64> {
    let text = namespace.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut each = names.split(' ').zip(values.split(' '));
    let found = each.find(|(name, _)| *name == "RetransSegs").map(|(_, value)| value);
    Ok(found.context("the kernel counts no segments sent again")?.parse()?)
}
