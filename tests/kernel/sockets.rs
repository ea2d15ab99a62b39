//! What the programs for sockets do on kernels that lack something this one has.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, V4};
use lb_common::settings::Settings;
use lb_ebpf::cases::topology::{self, Target, Topology};
use lb_ebpf::world::Tables;
use nix::errno::Errno;
use weir_tests::kernel::{Programs, in_own_namespace};
use weir_tests::lab::cgroup::Stay;
use weir_tests::requires;

use super::testbed;

/// How long a call may take that fails without any packet to another node.
const AT_ONCE: Duration = Duration::from_millis(500);

#[test]
fn without_set_retval_a_rejected_tcp_connection_is_refused_all_the_same() -> Result<()> {
    in_own_namespace(|| {
        let Some(stay) = Stay::begin()? else {
            requires::skip("needs a cgroup v2 hierarchy: mount -t cgroup2 cgroup2 DIR");
            return Ok(());
        };
        let device = testbed::build()?.device;
        let world = topology::world(device);
        let capacities = Programs::capacities(|_| 1024)?;
        let mut programs = Programs::load_with(&capacities, &[("SETS_ERRORS", 0)])?;
        testbed::write_rows(&mut programs, &world.tables, device)?;
        testbed::reset_maps(&mut programs, &world.tables, device)?;
        let namespace = own_namespace()?;
        let settings = Settings { namespace, ..Tables::<V4>::settings(&world.tables) };
        programs.set("SETTINGS", 0, settings)?;
        for name in ["connect4", "connect6", "sendmsg4", "sendmsg6"] {
            programs.attach_socket_program(name, stay.group())?;
        }
        for family in Family::ALL {
            let at = Topology { family }.frontend(Target::NoEndpoints);
            for to in [Some(at), mapped(at)].into_iter().flatten() {
                let connected = TcpStream::connect_timeout(&to, AT_ONCE);
                let error = connected.err().context("is connected")?;
                ensure!(error.kind() == ErrorKind::ConnectionRefused, "{to}: {error}");
            }
            // A datagram's destination has no port that refuses it without a packet.
            let any: SocketAddr = if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse()?;
            let error = UdpSocket::bind(any)?.send_to(b"?", at).err().context("is sent")?;
            ensure!(error.kind() == ErrorKind::PermissionDenied, "{at}/udp: {error}");
        }
        Ok(())
    })
}

/// The IPv4-mapped IPv6 address.
fn mapped(end: SocketAddr) -> Option<SocketAddr> {
    let SocketAddr::V4(v4) = end else { return None };
    Some(SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()))
}

/// The cookie of the calling thread's network namespace (`SO_NETNS_COOKIE`, Linux 5.14).
fn own_namespace() -> Result<u64> {
    use std::os::fd::AsRawFd;
    const SO_NETNS_COOKIE: i32 = 71;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let (mut cookie, mut length) = (0_u64, size_of::<u64>() as u32);
    // SAFETY: the socket is open, and the kernel writes no more than `length` bytes to where `cookie` is.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    Errno::result(result).context("SO_NETNS_COOKIE")?;
    Ok(cookie)
}
