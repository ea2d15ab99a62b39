//! Whole frames out of a device, many with one system call: for benchmarks and floods.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use anyhow::{Context, Result, ensure};
use nix::net::if_::if_nametoindex;

use crate::lab::Namespace;

/// Frames that are sent with one system call, at most.
pub const BATCH: usize = 64;

/// A socket that sends whole frames out of one device, past its queue.
#[derive(Debug)]
pub struct RawSender(OwnedFd);

impl RawSender {
    /// A sender out of `device` in `namespace`.
    ///
    /// # Errors
    /// If there is no such device, or the user may not.
    pub fn new(namespace: &Namespace, device: &str) -> Result<Self> {
        namespace.run(|| {
            let index = if_nametoindex(device).with_context(|| format!("no device {device}"))?;
            // SAFETY: the call takes numbers alone. Protocol 0: the socket receives nothing.
            let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
            ensure!(socket >= 0, "no packet socket: {}", io::Error::last_os_error());
            // SAFETY: the kernel has just made this descriptor for us.
            let socket = unsafe { OwnedFd::from_raw_fd(socket) };
            // SAFETY: every field is an integer or an array of integers.
            let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_ifindex = index.cast_signed();
            let length = size_of::<libc::sockaddr_ll>() as u32;
            // SAFETY: the address lives until the call returns, and is as long as stated.
            let bound =
                unsafe { libc::bind(socket.as_raw_fd(), ptr::from_ref(&address).cast(), length) };
            ensure!(bound == 0, "cannot bind to {device}: {}", io::Error::last_os_error());
            let on: libc::c_int = 1;
            // SAFETY: the option is an integer that lives until the call returns.
            let set = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_PACKET,
                    libc::PACKET_QDISC_BYPASS,
                    ptr::from_ref(&on).cast(),
                    size_of::<libc::c_int>() as u32,
                )
            };
            ensure!(set == 0, "cannot bypass the queue: {}", io::Error::last_os_error());
            Ok(Self(socket))
        })
    }

    /// Sends `frames`, at most [`BATCH`] at a time.
    ///
    /// # Errors
    /// If the device takes one of them not.
    pub fn send<T: AsRef<[u8]>>(&self, frames: &[T]) -> Result<()> {
        for frames in frames.chunks(BATCH) {
            self.send_batch(frames)?;
        }
        Ok(())
    }

    fn send_batch<T: AsRef<[u8]>>(&self, frames: &[T]) -> Result<()> {
        // SAFETY: null pointers and zero lengths are values of these types.
        let mut buffers: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let each = frames.iter().zip(&mut buffers).zip(&mut messages);
        for ((frame, buffer), message) in each {
            let bytes = frame.as_ref();
            buffer.iov_base = bytes.as_ptr().cast_mut().cast();
            buffer.iov_len = bytes.len();
            message.msg_hdr.msg_iov = buffer;
            message.msg_hdr.msg_iovlen = 1;
        }
        let mut sent = 0;
        while sent < frames.len() {
            let rest = &mut messages[sent..frames.len()];
            let (socket, count) = (self.0.as_raw_fd(), rest.len() as u32);
            // SAFETY: messages, buffers and frames live until the call returns; the kernel only reads
            // the frames.
            let result = unsafe { libc::sendmmsg(socket, rest.as_mut_ptr(), count, 0) };
            match usize::try_from(result) {
                Ok(more) if more > 0 => sent += more,
                Ok(_) | Err(_) => return Err(io::Error::last_os_error()).context("cannot send"),
            }
        }
        Ok(())
    }
}
