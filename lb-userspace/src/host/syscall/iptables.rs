//! iptables' rules as the kernel holds them.

use std::io;
use std::net::UdpSocket;

use lb_common::address::Family;

use super::socket_option::get;

/// The rules of one of iptables' tables as the kernel holds them: chains and rules one after the
/// other, in bytes (`struct ipt_entry` of `include/uapi/linux/netfilter_ipv4/ip_tables.h`). `socket`
/// is any of the family.
///
/// # Errors
/// Those of getsockopt(2): `EPERM` without `CAP_NET_ADMIN`, `EAGAIN` if the table is replaced
/// meanwhile.
pub fn iptables_rules(socket: &UdpSocket, family: Family, table: &str) -> io::Result<Vec<u8>> {
    // `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`; the name in front, `size` last and before the rules.
    const INFO: (libc::c_int, usize) = (64, 84);
    const ENTRIES: (libc::c_int, usize) = (65, 40);
    const NAME: usize = 32;
    let level = match family {
        Family::V4 => libc::SOL_IP,
        Family::V6 => libc::SOL_IPV6,
    };
    let named = |length: usize| {
        let mut value = vec![0; length];
        let name = table.as_bytes().get(..NAME - 1).unwrap_or(table.as_bytes());
        value[..name.len()].copy_from_slice(name);
        value
    };
    let mut info = named(INFO.1);
    get(socket, level, INFO.0, &mut info)?;
    let size = info[INFO.1 - 4..].first_chunk().map_or(0, |size| u32::from_ne_bytes(*size));
    let mut rules = named(ENTRIES.1 + size as usize);
    rules[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
    get(socket, level, ENTRIES.0, &mut rules)?;
    rules.drain(..ENTRIES.1);
    Ok(rules)
}
