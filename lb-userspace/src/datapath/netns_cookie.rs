//! The cookie of our network namespace, by which the socket programs know whose socket they see.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;

use aya::Ebpf;
use aya::maps::Array;
use aya::programs::CgroupAttachMode;
use lb_common::socket::NamespaceQuestion;

use super::loader;
use super::programs::NETNS_COOKIE_PROGRAM;
use crate::host::syscall;

/// The cookie. Where no socket option has it (before Linux 5.14), a program is attached to the control
/// group `cgroup`, to which this process must belong, for as long as one call takes.
///
/// # Errors
/// The kernel's errno, or that the program did not run.
pub fn cookie(ebpf: &mut Ebpf, cgroup: Option<&Path>) -> io::Result<u64> {
    match (syscall::namespace_cookie(), cgroup) {
        (Err(error), Some(cgroup)) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            read_by_program(ebpf, cgroup)
        }
        (result, _) => result,
    }
}

fn read_by_program(ebpf: &mut Ebpf, cgroup: &Path) -> io::Result<u64> {
    let program =
        loader::load_socket_program(ebpf, NETNS_COOKIE_PROGRAM).map_err(io::Error::other)?;
    let link = program
        .attach(File::open(cgroup)?, CgroupAttachMode::Single)
        .and_then(|link| program.take_link(link))
        .map_err(io::Error::other)?;
    let found = ebpf.map_mut("NAMESPACE").ok_or_else(|| io::Error::other("no map NAMESPACE"))?;
    let mut map: Array<_, [u64; 2]> = found.try_into().map_err(io::Error::other)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let request = NamespaceQuestion { socket: syscall::socket_cookie(&socket)?, namespace: 0 };
    map.set(0, bytemuck::cast::<_, [u64; 2]>(request), 0).map_err(io::Error::other)?;
    // Nothing is sent. Programs of others may refuse the call once ours has run.
    let _refused = socket.connect((Ipv4Addr::LOCALHOST, 9));
    drop(link);
    let read: NamespaceQuestion = bytemuck::cast(map.get(&0, 0).map_err(io::Error::other)?);
    match read.namespace {
        0 => Err(io::Error::other(format!(
            "this kernel has no SO_NETNS_COOKIE (Linux 5.14), and this process is in no \
             control group below {}",
            cgroup.display()
        ))),
        cookie => Ok(cookie),
    }
}
