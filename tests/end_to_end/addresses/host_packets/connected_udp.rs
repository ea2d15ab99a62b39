//! UDP sockets of the node's own processes that stay connected to a Service while its backends change.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use weir_tests::fixture::Fixture;
use weir_tests::lab::{Addresses, Attachment, PodRouting, Shape};
use weir_tests::manifests::{Offer, Rules};
use weir_tests::traffic::{Flow, Origin};
use weir_tests::wait::until;

use crate::addresses::host_processes::{CHANGE, connected, mapped, start};

/// Between two datagrams.
const INTERVAL: Duration = Duration::from_millis(1);

/// Datagrams that are sent between two changes, at least.
const BETWEEN: u32 = 200;

/// How long the last reply may take.
const LAST: Duration = Duration::from_secs(1);

#[test]
fn a_connected_udp_socket_follows_ten_changes_of_its_only_backend() -> Result<()> {
    follow(Shape::default())
}

#[test]
fn a_connected_udp_socket_follows_its_backends_through_an_overlay() -> Result<()> {
    follow(Shape {
        pod_routing: PodRouting::Overlay,
        attachment: Attachment::Bridged,
        ..Shape::default()
    })
}

/// Sends to ClusterIPs of both families, as an IPv6 socket to an IPv4-mapped address, too, under a strict reverse path
/// filter.
fn follow(shape: Shape) -> Result<()> {
    let Some(fixture) = start(shape)? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    for device in lab.node1.pods.iter().map(|pod| pod.device.as_str()).chain(["all", "eth0"]) {
        let setting = format!("net/ipv4/conf/{device}/rp_filter");
        lab.node1.namespace.set(&[(&setting, "1")])?;
    }
    let pods: Vec<_> = lab.pods().collect();
    let mut offer = Offer { name: "followed", number: 41, pods: vec![pods[0]] };
    let rules = Rules { is_balanced: true, ..Rules::default() };
    fixture.manifests.offer_under(&offer, &rules)?;
    serves(&fixture, &offer)?;
    let at = |addresses: Addresses, family| SocketAddr::new(addresses.of(family), Offer::PORT);
    let [v4, v6] = Family::ALL.map(|family| at(offer.cluster_ips(), family));
    let ends = [v4, v6].into_iter().chain(mapped(v4));
    let talks: Vec<Talk> =
        ends.map(|end| Talk::new(connected(lab, end)?)).collect::<Result<_>>()?;
    thread::scope(|scope| {
        let threads: Vec<_> = talks.iter().map(|talk| scope.spawn(|| talk.run())).collect();
        let mut change = |number: usize| -> Result<Vec<Range<u32>>> {
            offer.pods = vec![pods[number % pods.len()]];
            fixture.manifests.offer_under(&offer, &rules)?;
            serves(&fixture, &offer)?;
            // From here on every datagram is answered, until the next change begins.
            talks.iter().map(Talk::settled).collect()
        };
        let settled: Result<Vec<_>> = (1..=10).map(&mut change).collect();
        talks.iter().for_each(Talk::stop);
        let answered: Result<Vec<_>> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        let (settled, answered) = (settled?, answered?);
        for (number, ranges) in settled.iter().enumerate() {
            for (talk, range) in answered.iter().zip(ranges) {
                let lost = range.clone().filter(|sent| !talk.contains(sent)).count();
                ensure!(lost == 0, "change {number}: {lost} of {range:?} are not answered");
            }
        }
        Ok(())
    })
}

/// Waits until the Service's only pod answers a new flow of the node.
fn serves(fixture: &Fixture, offer: &Offer) -> Result<()> {
    let frontend = SocketAddr::new(offer.cluster_ips().of(Family::V6), Offer::PORT);
    let flow = Flow { origin: Origin::Host, frontend, protocol: Protocol::TCP };
    until("the new pod answers", CHANGE, || {
        let response = flow.send(&fixture.lab, 1)?;
        let wanted = &offer.pods[0].name;
        ensure!(response.pod == *wanted, "{} answers, not {wanted}", response.pod);
        Ok(())
    })
}

/// A process that sends on one socket all the time.
struct Talk {
    socket: UdpSocket,
    sent: AtomicU32,
    stopping: AtomicBool,
}

impl Talk {
    fn new(socket: UdpSocket) -> Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, sent: AtomicU32::new(0), stopping: AtomicBool::new(false) })
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Waits until more datagrams are sent; their numbers.
    fn settled(&self) -> Result<Range<u32>> {
        let sent = || self.sent.load(Ordering::Relaxed);
        let from = sent();
        until("more datagrams are sent", CHANGE, || {
            ensure!(sent() >= from + BETWEEN, "only {} since {from}", sent() - from);
            Ok(())
        })?;
        Ok(from..sent())
    }

    /// Sends until it is to stop; the numbers of the datagrams that were answered.
    fn run(&self) -> Result<BTreeSet<u32>> {
        let mut answered = BTreeSet::new();
        while !self.stopping.load(Ordering::Relaxed) {
            let number = self.sent.load(Ordering::Relaxed);
            self.socket.send(&number.to_be_bytes()).context("the process sees an error")?;
            self.sent.store(number + 1, Ordering::Relaxed);
            let next = Instant::now() + INTERVAL;
            self.receive(&mut answered)?;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        let end = Instant::now() + LAST;
        while Instant::now() < end {
            self.receive(&mut answered)?;
            thread::sleep(INTERVAL);
        }
        Ok(answered)
    }

    /// Receives what has come; each datagram's number is at the end of its reply.
    fn receive(&self, answered: &mut BTreeSet<u32>) -> Result<()> {
        let mut reply = [0; 256];
        let peer = self.socket.peer_addr()?;
        loop {
            match self.socket.recv_from(&mut reply) {
                Ok((length, from)) => {
                    ensure!(from == peer, "a reply from {from}, not from {peer}");
                    let number = reply[..length].last_chunk().context("a short reply")?;
                    answered.insert(u32::from_be_bytes(*number));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("the process sees an error"),
            }
        }
    }
}
