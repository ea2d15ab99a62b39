//! The flood: packets with forged sources, at a steady rate, out of the router's device to node1.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lb_common::address::Protocol;
use lb_ebpf::cases::frame::{self, Kind};
use weir_tests::lab::Lab;
use weir_tests::traffic::raw::{BATCH, RawSender};

/// The first forged source.
const FIRST: u32 = u32::from_be_bytes([11, 0, 0, 0]);
/// Where a source's last datagram comes behind its first: its reply has come by then.
const APART: u32 = 1 << 14;
/// Where the source's address stands in a frame.
const SOURCE: std::ops::Range<usize> = 26..30;
/// Where the checksums of IPv4, and of UDP and TCP, stand.
const IP_CHECKSUM: usize = 24;
const TRANSPORT: [usize; 2] = [40, 50];

/// The flood to be sent.
pub struct Attack {
    sender: RawSender,
    /// A datagram and a SYN of source 0.
    templates: [Vec<u8>; 2],
    sources: u32,
    time: Duration,
}

impl Attack {
    /// A flood of as many `sources` within `time`, to `to`.
    pub fn new(lab: &Lab, to: SocketAddr, sources: u32, time: Duration) -> Result<Self> {
        let from = SocketAddr::new(Ipv4Addr::from_bits(FIRST).into(), 1234);
        let links = [lab.node1.namespace.link_address("eth0")?, lab.network.link_address("nodes")?]
            .concat();
        let template = |protocol, kind| {
            let mut frame = frame::frame(from, to, protocol, kind, &[0; 18]);
            frame[..12].copy_from_slice(&links);
            frame
        };
        let templates = [template(Protocol::UDP, Kind::Data), template(Protocol::TCP, Kind::Open)];
        Ok(Self { sender: RawSender::new(&lab.network, "node1")?, templates, sources, time })
    }

    /// Sends it; counts the sources that have come in `sent`.
    pub fn send(&self, sent: &AtomicU32) -> Result<()> {
        let begun = Instant::now();
        let mut frames = Vec::with_capacity(BATCH);
        for first in (0..self.sources).step_by(16) {
            let due = self.time.mul_f64(f64::from(first) / f64::from(self.sources));
            if let Some(early) = due.checked_sub(begun.elapsed()) {
                thread::sleep(early);
            }
            if begun.elapsed() > self.time {
                break;
            }
            frames.clear();
            for source in first..first + 16 {
                // By turns a SYN, and a datagram with another one later.
                let is_syn = source % 2 == 1;
                frames.push(self.frame(is_syn, source));
                if let Some(earlier) = source.checked_sub(APART).filter(|_| !is_syn) {
                    frames.push(self.frame(false, earlier));
                }
            }
            self.sender.send(&frames).context("the flood")?;
            sent.store(first + 16, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The frame of a source. Its checksums follow from those of source 0.
    fn frame(&self, is_syn: bool, source: u32) -> Vec<u8> {
        let mut frame = self.templates[usize::from(is_syn)].clone();
        frame[SOURCE].copy_from_slice(&(FIRST + source).to_be_bytes());
        for at in [IP_CHECKSUM, TRANSPORT[usize::from(is_syn)]] {
            let sum = u16::from_be_bytes([frame[at], frame[at + 1]]);
            frame[at..at + 2].copy_from_slice(&changed(sum, source).to_be_bytes());
        }
        frame
    }
}

/// `checksum` after `FIRST` became `FIRST + more` (RFC 1624). The low word of `FIRST` is zero.
fn changed(checksum: u16, more: u32) -> u16 {
    let mut sum = u32::from(!checksum) + (more >> 16) + (more & 0xffff);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
