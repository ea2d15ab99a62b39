//! The cookie of our network namespace, by which programs know whose socket they are at.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;

use aya::Ebpf;
use aya::maps::Array;
use aya::programs::CgroupAttachMode;
use lb_common::socket::NamespaceQuestion;

use super::loader;
use crate::host::syscall;

/// The program that stands in connect(2) while it is asked for the cookie.
pub const PROGRAM: &str = "own_namespace";

/// The cookie. Where the kernel does not tell it to processes (before Linux 5.14), a program is put on
/// the control group `cgroup`, to which this process must belong, for as long as one call takes.
///
/// # Errors
/// The kernel's answer, or that the program was not asked.
pub fn cookie(ebpf: &mut Ebpf, cgroup: Option<&Path>) -> io::Result<u64> {
    match (syscall::namespace_cookie(), cgroup) {
        (Err(error), Some(cgroup)) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            ask_program(ebpf, cgroup)
        }
        (told, _) => told,
    }
}

fn ask_program(ebpf: &mut Ebpf, cgroup: &Path) -> io::Result<u64> {
    let program = loader::load_for_sockets(ebpf, PROGRAM).map_err(io::Error::other)?;
    let link = program
        .attach(File::open(cgroup)?, CgroupAttachMode::Single)
        .and_then(|link| program.take_link(link))
        .map_err(io::Error::other)?;
    let map = ebpf.map_mut("NAMESPACE").ok_or_else(|| io::Error::other("no map NAMESPACE"))?;
    let mut question: Array<_, [u64; 2]> = map.try_into().map_err(io::Error::other)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let asked = NamespaceQuestion { socket: syscall::socket_cookie(&socket)?, namespace: 0 };
    question.set(0, bytemuck::cast::<_, [u64; 2]>(asked), 0).map_err(io::Error::other)?;
    // Nothing is sent. Programs of others may refuse the call once ours has answered.
    let _refused = socket.connect((Ipv4Addr::LOCALHOST, 9));
    drop(link);
    let answer: NamespaceQuestion = bytemuck::cast(question.get(&0, 0).map_err(io::Error::other)?);
    match answer.namespace {
        0 => Err(io::Error::other(format!(
            "this kernel does not tell it (SO_NETNS_COOKIE, Linux 5.14), and this process is in no \
             control group below {}",
            cgroup.display()
        ))),
        cookie => Ok(cookie),
    }
}
