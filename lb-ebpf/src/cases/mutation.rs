//! The fuzzer's packets: frames of the topology, truncated, extended and overwritten, and plain noise.
//! A seed names a packet for ever, so that memory and kernel can be given the same.

use std::net::SocketAddr;

use lb_common::address::{Family, Protocol};

use super::case::Program;
use super::frame::{self, Kind};
use super::topology::{BACKEND_PORT, Pod, Target, Topology};

/// A packet, and the program that it arrives at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The program.
    pub program: Program,
    /// Its bytes.
    pub frame: Vec<u8>,
}

/// The packet of `seed`.
#[must_use]
pub fn of(seed: u64) -> Sent {
    let mut dice = Dice(seed);
    let program = *dice.pick(&Program::ALL);
    let mut frame = if dice.below(16) == 0 { noise(&mut dice) } else { sensible(&mut dice) };
    for _ in 0..*dice.pick(&[0, 0, 1, 1, 2, 8]) {
        mutate(&mut dice, &mut frame);
    }
    Sent { program, frame }
}

/// A frame that the node might see.
fn sensible(dice: &mut Dice) -> Vec<u8> {
    let topology = Topology { family: *dice.pick(&Family::ALL) };
    let protocol = *dice.pick(&[Protocol::TCP, Protocol::UDP, Protocol::UDP, Protocol::SCTP]);
    // Few ports, so that flows meet again.
    let port = 40_000 + dice.below(4) as u16;
    let clients =
        [topology.client(port), topology.client_pod(port), topology.pod(Pod::Local, port)];
    let client = *dice.pick(&clients);
    let target = *dice.pick(&[
        Target::Local,
        Target::LocalToo,
        Target::Remote,
        Target::RemoteToo,
        Target::NoEndpoints,
        Target::NoLocalEndpoints,
        Target::Broken,
        Target::NotAService,
        Target::Restricted,
    ]);
    let frontend = topology.frontend(target);
    let backend = topology.pod(*dice.pick(&[Pod::Local, Pod::Remote]), BACKEND_PORT);
    let translated = topology.node(topology.snat_port(client, frontend, protocol, 0));
    let (from, to) = *dice.pick(&[
        (client, frontend),
        (client, frontend),
        (backend, client),
        (backend, translated),
        (client, backend),
    ]);
    let kind =
        *dice.pick(&[Kind::Open, Kind::Accept, Kind::Data, Kind::Data, Kind::Close, Kind::Reset]);
    let payload = vec![dice.below(256) as u8; *dice.pick(&[0, 1, 2, 31, 512])];
    let frame = frame::frame(from, to, protocol, kind, &payload);
    match dice.below(8) {
        0 => {
            let fragments = frame::fragments(&frame);
            dice.pick(&fragments).clone()
        }
        1 => error(dice, topology, from, &frame),
        2 => ping(dice, topology, from, to),
        3 if topology.family == Family::V6 => {
            let headers = *dice.pick(&[&[0][..], &[60, 43], &[0, 60, 43, 60, 60, 60, 60], &[51]]);
            frame::with_extension_headers(&frame, headers)
        }
        _ => frame,
    }
}

/// An ICMP error that a router, a backend or a client might send about a frame's packet, perhaps with
/// a short quote.
fn error(dice: &mut Dice, topology: Topology, from: SocketAddr, frame: &[u8]) -> Vec<u8> {
    let router = *dice.pick(&[
        topology.router(),
        topology.pod(Pod::Remote, 0).ip(),
        topology.client(0).ip(),
    ]);
    let icmp = *match topology.family {
        Family::V4 => dice.pick(&[(3, 4, 1280), (3, 3, 0), (11, 0, 0)]),
        Family::V6 => dice.pick(&[(2, 0, 1280), (1, 4, 0), (3, 0, 0)]),
    };
    let whole = &frame[14..];
    let quoted = *dice.pick(&[8, 28, 48, whole.len(), whole.len()]);
    frame::icmp(router, from.ip(), icmp, &whole[..quoted.min(whole.len())])
}

/// An echo request or reply.
fn ping(dice: &mut Dice, topology: Topology, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let kind = *match topology.family {
        Family::V4 => dice.pick(&[8, 0]),
        Family::V6 => dice.pick(&[128, 129]),
    };
    frame::icmp(from.ip(), to.ip(), (kind, 0, 7), &[3; 21])
}

fn noise(dice: &mut Dice) -> Vec<u8> {
    (0..14 + dice.below(120)).map(|_| dice.below(256) as u8).collect()
}

fn mutate(dice: &mut Dice, frame: &mut Vec<u8>) {
    let length = frame.len() as u64;
    match dice.below(6) {
        0 => frame.truncate(14 + dice.below(length.max(15) - 14) as usize),
        1 => frame.extend((0..dice.below(64)).map(|i| i as u8)),
        // Mostly headers: payload is never looked at.
        2..=4 => {
            let at = dice.below(length.clamp(1, 74)) as usize;
            let byte = dice.below(256) as u8;
            if let Some(target) = frame.get_mut(at) {
                *target = byte;
            }
        }
        _ => {
            let at = dice.below(length.max(1)) as usize;
            if let Some(target) = frame.get_mut(at) {
                *target ^= 1 << dice.below(8);
            }
        }
    }
}

/// Random numbers that a seed names: SplitMix64 (Steele, Lea, Flood, 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}
