//! The calls that are timed.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Result;
use lb_common::address::Family;
use socket2::SockRef;
use weir_tests::lab::{Lab, Namespace, addresses};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{ECHO_PORT, HTTP_PORT};

/// What is timed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Call {
    /// connect(2) of a UDP socket, the same again and again: no packet is sent.
    Connect,
    /// connect(2) of a TCP socket, one request and its response, and close(2).
    Open,
    /// One request and its response over an open TCP connection.
    Exchange,
}

impl Call {
    const ALL: [Self; 3] = [Self::Connect, Self::Open, Self::Exchange];

    /// How often it is done in a round.
    const fn times(self) -> u32 {
        match self {
            Self::Connect => 20_000,
            Self::Open => 300,
            Self::Exchange => 1_000,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect a UDP socket",
            Self::Open => "open a TCP connection and ask",
            Self::Exchange => "ask over a TCP connection",
        })
    }
}

/// Who calls: a process of the node, or a pod.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Caller {
    /// A process of the node.
    Host,
    /// A pod, which does not serve.
    Pod,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "a process of the node",
            Self::Pod => "a pod",
        })
    }
}

/// The destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    /// An address outside the cluster.
    Outside,
    /// A pod, by its own address.
    Pod,
    /// A Service that this pod serves.
    Service,
}

/// A call that is timed, in one family.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// What distinguishes it from others.
    pub name: (Family, Caller, Call, Target),
    namespace: &'a Namespace,
    end: SocketAddr,
}

impl<'a> Case<'a> {
    /// Every case.
    pub fn all(lab: &'a Lab, offer: &Offer) -> Vec<Self> {
        let mut cases = Self::direct(lab);
        for family in Family::ALL {
            let service = SocketAddr::new(offer.cluster_ips().of(family), Offer::PORT);
            cases.extend(Self::of(lab, family, Target::Service, |_| service));
        }
        cases
    }

    /// Those to no Service.
    pub fn direct(lab: &'a Lab) -> Vec<Self> {
        let mut cases = Vec::new();
        for family in Family::ALL {
            let pod = lab.node1.pods[0].addresses.of(family);
            let port = |call| if call == Call::Connect { ECHO_PORT } else { HTTP_PORT };
            cases.extend(Self::of(lab, family, Target::Pod, |call| (pod, port(call)).into()));
            let outside = SocketAddr::new(addresses::CLIENT.of(family), 9);
            let to_outside = Self::of(lab, family, Target::Outside, |_| outside);
            cases.extend(to_outside.filter(|case| case.name.2 == Call::Connect));
        }
        cases
    }

    fn of(
        lab: &'a Lab,
        family: Family,
        target: Target,
        end: impl Fn(Call) -> SocketAddr,
    ) -> impl Iterator<Item = Self> {
        let caller =
            [(Caller::Host, &lab.node1.namespace), (Caller::Pod, &lab.node1.pods[1].namespace)];
        caller.into_iter().flat_map(move |(caller, namespace)| {
            let case =
                |call| Case { name: (family, caller, call, target), namespace, end: end(call) };
            Call::ALL.map(case)
        })
    }

    /// Nanoseconds per call.
    pub fn run(&self) -> Result<f64> {
        let (.., call, _) = self.name;
        self.namespace.run(|| {
            let times = call.times();
            let begun = match call {
                Call::Connect => {
                    let socket = UdpSocket::bind((any(self.end), 0))?;
                    let begun = Instant::now();
                    for _ in 0..times {
                        socket.connect(self.end)?;
                    }
                    begun
                }
                Call::Open => {
                    let begun = Instant::now();
                    for _ in 0..times {
                        // Without time to wait for packets that are late, or ports would run out.
                        let mut stream = TcpStream::connect(self.end)?;
                        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                        ask(&mut stream)?;
                    }
                    begun
                }
                Call::Exchange => {
                    let mut stream = TcpStream::connect(self.end)?;
                    stream.set_nodelay(true)?;
                    ask(&mut stream)?;
                    let begun = Instant::now();
                    for _ in 0..times {
                        ask(&mut stream)?;
                    }
                    begun
                }
            };
            Ok(begun.elapsed().as_nanos() as f64 / f64::from(times))
        })
    }
}

impl fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (family, caller, call, _) = self.name;
        write!(f, "{call} to {}, {caller}, {family}", self.end)
    }
}

/// Sends a byte and receives it back. After this the server has taken the connection out of its queue, which
/// is short.
fn ask(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"?")?;
    Ok(stream.read_exact(&mut [0])?)
}

/// The address of a socket that may speak to `end`.
fn any(end: SocketAddr) -> IpAddr {
    if end.is_ipv4() { [0, 0, 0, 0].into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Nanoseconds per call, a figure of each round.
#[derive(Default)]
pub struct Times(BTreeMap<(Family, Caller, Call, Target), Vec<f64>>);

impl Times {
    /// Adds a round's figure.
    pub fn add(&mut self, case: &Case, nanoseconds: f64) {
        self.0.entry(case.name).or_default().push(nanoseconds);
    }

    /// The median.
    pub fn median(&self, name: (Family, Caller, Call, Target)) -> Option<f64> {
        let mut times = self.0.get(&name)?.clone();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    }

    /// What was measured.
    pub fn names(&self) -> impl Iterator<Item = (Family, Caller, Call)> {
        let mut names: Vec<_> =
            self.0.keys().map(|(family, caller, call, _)| (*family, *caller, *call)).collect();
        names.dedup();
        names.into_iter()
    }
}
