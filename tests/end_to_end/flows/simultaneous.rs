//! A resolver asks for A and AAAA at once, from one new socket: two packets of one new flow, on two CPUs at
//! the same moment. Both get their reply.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context, Result, ensure};
use lb_common::address::Family;
use lb_common::outcome::Outcome;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Namespace, Shape};
use weir_tests::manifests::Offer;
use weir_tests::processor::stay_on_cpu;
use weir_tests::traffic::TIMEOUT;
use weir_tests::wait::SLOWNESS;

/// Sockets per path, of which there are four; each sends two datagrams at once. `WEIR_PAIRS` asks for
/// another number: `WEIR_PAIRS=25000 cargo xtask test --only end-to-end pairs_of_first_datagrams`.
const PAIRS: u32 = 2_500;

/// The same where each instruction is emulated.
const EMULATED_PAIRS: u32 = 500;

#[test]
fn of_many_pairs_of_first_datagrams_none_is_lost() -> Result<()> {
    let Some(fixture) = Fixture::start(Shape::default())? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let offer = ServedBy::AllPods.offer(lab);
    let pairs = match std::env::var("WEIR_PAIRS") {
        Ok(number) => number.parse().context("WEIR_PAIRS is no number")?,
        Err(_) if SLOWNESS > 1 => EMULATED_PAIRS,
        Err(_) => PAIRS,
    };
    for family in Family::ALL {
        let cluster_ip = (offer.cluster_ips().of(family), Offer::PORT).into();
        let node_port = (lab.node1.addresses.of(family), offer.node_port()).into();
        for (from, frontend) in
            [(&lab.node1.pods[1].namespace, cluster_ip), (&lab.client, node_port)]
        {
            send_pairs(from, frontend, pairs).with_context(|| {
                let counted = Outcome::ALL.iter().filter_map(|outcome| {
                    let count = fixture.counted(*outcome).ok().filter(|count| *count > 0)?;
                    Some(format!("{outcome} {count}"))
                });
                let counted: Vec<_> = counted.collect();
                format!("pairs to {frontend}; counted so far: {}", counted.join(", "))
            })?;
        }
    }
    ensure!(fixture.counted(Outcome::DroppedConntrackFull)? == 0, "a flow found no room");
    Ok(())
}

/// What the two senders of a pair agree by: the number of the pair.
#[derive(Default)]
struct Signals {
    ready: AtomicU32,
    go: AtomicU32,
}

/// Sends `pairs` pairs of datagrams to `frontend`, each from a socket of its own, and waits for both
/// replies of each.
fn send_pairs(from: &Namespace, frontend: SocketAddr, pairs: u32) -> Result<()> {
    from.run(|| {
        let signals = Arc::new(Signals::default());
        let second = second_sender(Arc::clone(&signals));
        stay_on_cpu(0)?;
        for number in 1..=pairs {
            let socket = Arc::new(UdpSocket::bind((any(frontend), 0))?);
            socket.connect(frontend)?;
            socket.set_read_timeout(Some(TIMEOUT))?;
            second.send((number, Arc::clone(&socket))).context("the second sender is gone")?;
            await_number(&signals.ready, number);
            signals.go.store(number, Ordering::Release);
            socket.send(b"A")?;
            let mut seen = [receive(&socket), receive(&socket)].map(Result::ok);
            seen.sort();
            ensure!(seen == [Some(b'2'), Some(b'A')], "replies to pair {number}: {seen:?}");
        }
        Ok(())
    })
}

/// Starts the one that sends the second datagram of each pair.
fn second_sender(signals: Arc<Signals>) -> Sender<(u32, Arc<UdpSocket>)> {
    let (sender, pairs) = channel::<(u32, Arc<UdpSocket>)>();
    thread::spawn(move || -> Result<()> {
        stay_on_cpu(1)?;
        for (number, socket) in pairs {
            signals.ready.store(number, Ordering::Release);
            await_number(&signals.go, number);
            socket.send(b"2")?;
        }
        Ok(())
    });
    sender
}

/// Waits, in a loop, for the moment: sleeping would miss it.
fn await_number(signal: &AtomicU32, number: u32) {
    while signal.load(Ordering::Acquire) != number {
        thread::yield_now();
    }
}

/// The last byte of a reply, which is that of the datagram it replies to.
fn receive(socket: &UdpSocket) -> Result<u8> {
    let mut reply = [0; 256];
    let length = socket.recv(&mut reply)?;
    reply[..length].last().copied().context("an empty reply")
}

/// The unspecified address of `to`'s family.
fn any(to: SocketAddr) -> IpAddr {
    match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
