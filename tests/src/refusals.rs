//! One write in ten to the maps refused: the agent's own calls of bpf(2) fail as they do in a kernel that is out of
//! memory. The process runs under a filter of seccomp(2), which asks a thread of ours about each write. Nothing of the
//! agent is changed for it, and writes of programs and of memory that is mapped are not among them.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Result, bail};
use libc::{seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog};
use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// One write in so many is refused.
const ONE_IN: u64 = 10;

/// `BPF_MAP_UPDATE_ELEM`, `BPF_MAP_DELETE_ELEM` and the batches of both, of `include/uapi/linux/bpf.h`.
const WRITES: [u32; 4] = [2, 3, 26, 27];

/// Refuses writes of processes that were started [under](Refusals::over) it, once it is switched on.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_on: AtomicBool,
    asked: AtomicU64,
    refused: AtomicU64,
}

impl Refusals {
    /// Has this say in the writes of what `command` starts. It is started once at most.
    ///
    /// # Errors
    /// If there are no more file descriptors.
    pub fn over(&self, command: &mut Command) -> Result<()> {
        let (ours, childs) = UnixStream::pair()?;
        let filter = filter();
        // SAFETY: between fork and exec only system calls are made; nothing is allocated.
        unsafe {
            command.pre_exec(move || send(&childs, install(&filter)?));
        }
        let state = Arc::clone(&self.0);
        thread::spawn(move || receive(&ours).map(|listener| state.decide(&listener)));
        Ok(())
    }

    /// From now on one write in ten is refused, or none.
    pub fn switch(&self, is_on: bool) {
        self.0.is_on.store(is_on, Ordering::Relaxed);
    }

    /// How many writes were refused, of how many.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.0.refused.load(Ordering::Relaxed), self.0.asked.load(Ordering::Relaxed))
    }
}

impl State {
    /// Decides about each write until no process is left that makes some.
    fn decide(&self, listener: &OwnedFd) {
        loop {
            let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            let polled = poll(&mut ready, PollTimeout::NONE);
            let events = ready[0].revents().unwrap_or(PollFlags::empty());
            if polled.is_err() || !events.contains(PollFlags::POLLIN) {
                return;
            }
            // SAFETY: all of its fields are numbers; the kernel demands zeros.
            let mut asked: seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: the kernel writes one such struct.
            let read = unsafe {
                libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &mut asked)
            };
            // Whoever asked was killed meanwhile.
            if read < 0 {
                continue;
            }
            let is_refused = self.is_refused();
            let (error, flags) = if is_refused {
                (-libc::ENOMEM, 0)
            } else {
                (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32)
            };
            let response = seccomp_notif_resp { id: asked.id, val: 0, error, flags };
            // SAFETY: the kernel reads one such struct. It fails if whoever asked was killed.
            unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &response) };
        }
    }

    fn is_refused(&self) -> bool {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let is_refused = self.is_on.load(Ordering::Relaxed) && number.is_multiple_of(ONE_IN);
        self.refused.fetch_add(u64::from(is_refused), Ordering::Relaxed);
        is_refused
    }
}

/// Asks about bpf(2) with one of [`WRITES`], and lets everything else pass.
fn filter() -> [sock_filter; 9] {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // Where `struct seccomp_data` has the number of the call, and the lower half of its first argument.
    const NUMBER: u32 = 0;
    const FIRST_ARGUMENT: u32 = 16;
    let line = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let [update, delete, update_batch, delete_batch] = WRITES;
    [
        line(LOAD, 0, 0, NUMBER),
        line(IF_EQUAL, 0, 5, libc::SYS_bpf as u32),
        line(LOAD, 0, 0, FIRST_ARGUMENT),
        line(IF_EQUAL, 4, 0, update),
        line(IF_EQUAL, 3, 0, delete),
        line(IF_EQUAL, 2, 0, update_batch),
        line(IF_EQUAL, 1, 0, delete_batch),
        line(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        line(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
    ]
}

/// Puts the calling process under `filter`; returns what its questions are read from.
fn install(filter: &[sock_filter]) -> io::Result<RawFd> {
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads the program, which lives until the call returns.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &program,
        )
    };
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(listener as RawFd)
}

/// Room for a control message with one descriptor, aligned as its header must be.
const CONTROL: usize = 4;

/// Sends `descriptor` to the other end of `socket`, without allocating.
fn send(socket: &UnixStream, descriptor: RawFd) -> io::Result<()> {
    let (mut byte, mut control) = ([0u8], [0u64; CONTROL]);
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: all of its fields are numbers and pointers, which may be null.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: arithmetic.
    let (space, length) = unsafe { (libc::CMSG_SPACE(4), libc::CMSG_LEN(4)) };
    message.msg_controllen = space as _;
    // SAFETY: `control` is long enough for a header and a descriptor, and aligned, so the first header is in it and not
    // null; all that `message` points to lives until the call returns.
    let sent = unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = length as _;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(descriptor);
        libc::sendmsg(socket.as_raw_fd(), &message, 0)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn receive(socket: &UnixStream) -> Result<OwnedFd> {
    let (mut byte, mut control) = ([0], cmsg_space!(RawFd));
    let mut parts = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let Some(ControlMessageOwned::ScmRights(descriptors)) = message.cmsgs()?.next() else {
        bail!("the process was not started");
    };
    let [descriptor] = descriptors[..] else { bail!("it has sent {descriptors:?}") };
    // SAFETY: it has just been received, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
