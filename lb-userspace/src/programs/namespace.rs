//! The cookie of our network namespace, by which programs know whose socket they are at.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::process;

use aya::Ebpf;
use aya::maps::Array;
use aya::programs::CgroupAttachMode;
use lb_common::address::{Port, V4};
use lb_common::socket::NamespaceQuestion;

use super::object;
use crate::syscall;

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
    // Of the addresses of the node itself one that says who asks: agents that ask at the same moment
    // do not hear each other's answer.
    let [_, a, b, c] = process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, a, b, c | 1);
    let port = 9;
    let program = object::load_for_sockets(ebpf, PROGRAM).map_err(io::Error::other)?;
    let link = program
        .attach(File::open(cgroup)?, CgroupAttachMode::Single)
        .and_then(|link| program.take_link(link))
        .map_err(io::Error::other)?;
    let map = ebpf.map_mut("NAMESPACE").ok_or_else(|| io::Error::other("no map NAMESPACE"))?;
    let mut question: Array<_, [u8; 16]> = map.try_into().map_err(io::Error::other)?;
    let asked = NamespaceQuestion {
        address: V4(address.octets()),
        port: Port::new(port),
        zero: 0,
        cookie: 0,
    };
    question.set(0, bytemuck::cast::<_, [u8; 16]>(asked), 0).map_err(io::Error::other)?;
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.connect(SocketAddrV4::new(address, port))?;
    drop(link);
    let answer: NamespaceQuestion = bytemuck::cast(question.get(&0, 0).map_err(io::Error::other)?);
    match answer.cookie {
        0 => Err(io::Error::other(format!(
            "this process is in no control group below {}",
            cgroup.display()
        ))),
        cookie => Ok(cookie),
    }
}
