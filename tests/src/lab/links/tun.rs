//! A tunnel between the nodes whose devices have no Ethernet header, as WireGuard's and IPIP's: two TUN devices, and a
//! thread that carries packets from one to the other. It needs no module that a kernel may lack.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::lab::namespace::Namespace;

/// The name of the device on each node.
pub(crate) const DEVICE: &str = "tun0";

/// The longest packet, larger than any device's MTU here.
const LONGEST: usize = 1 << 16;

/// The tunnel. Dropping it ends the thread, and the devices go.
#[derive(Debug)]
pub struct Tunnel {
    is_over: Arc<AtomicBool>,
    carrier: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// Makes the device in both namespaces; they have no address and are down.
    pub(crate) fn between(nodes: [&Namespace; 2]) -> Result<Self> {
        let [first, second] = nodes;
        let ends = [first.run(|| open(DEVICE))?, second.run(|| open(DEVICE))?];
        let is_over = Arc::new(AtomicBool::new(false));
        let carrier = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || carry(&ends, &is_over)
        });
        Ok(Self { is_over, carrier: Some(carrier) })
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(carrier) = self.carrier.take() {
            let _ = carrier.join();
        }
    }
}

/// Carries packets until it is over. What a device does not take, because it is down, is lost.
fn carry(ends: &[File; 2], is_over: &AtomicBool) {
    let look_again = PollTimeout::from(50_u8);
    let mut packet = vec![0; LONGEST];
    while !is_over.load(Ordering::Relaxed) {
        let mut ready = ends.each_ref().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
        if poll(&mut ready, look_again).is_err() {
            return;
        }
        for (mut from, mut to) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
            loop {
                match from.read(&mut packet) {
                    Ok(length) => drop(to.write(&packet[..length])),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => return,
                }
            }
        }
    }
}

/// Opens a TUN device of this name in the caller's namespace, and makes it.
fn open(name: &str) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .context("/dev/net/tun is not there")?;
    // SAFETY: zeros are a request, and the name is shorter than the field.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (field, letter) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *field = letter.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open, and the request is as long as the kernel reads.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result != 0 {
        return Err(std::io::Error::last_os_error()).context("cannot make a TUN device");
    }
    Ok(file)
}
