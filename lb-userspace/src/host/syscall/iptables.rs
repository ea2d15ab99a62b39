//! iptables' rules as the kernel holds them.

use std::io;
use std::net::UdpSocket;

use lb_common::address::Family;

use super::socket_option::get;

/// One of iptables' tables as the kernel holds it.
pub struct IptablesTable {
    /// Chains and rules one after the other, in bytes (`struct ipt_entry` of
    /// `include/uapi/linux/netfilter_ipv4/ip_tables.h`).
    pub rules: Vec<u8>,
    /// Where the first rule for what is forwarded is in them, and the one that is the policy; `None` if
    /// the table does not see such packets.
    pub forward: Option<[usize; 2]>,
}

/// Reads a table of iptables. `socket` is any of the family.
///
/// # Errors
/// Those of getsockopt(2): `EPERM` without `CAP_NET_ADMIN`, `EAGAIN` if the table is replaced
/// meanwhile.
pub fn iptables_table(
    socket: &UdpSocket,
    family: Family,
    table: &str,
) -> io::Result<IptablesTable> {
    // `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`; the name in front, `size` last and before the rules.
    const INFO: (libc::c_int, usize) = (64, 84);
    const ENTRIES: (libc::c_int, usize) = (65, 40);
    const NAME: usize = 32;
    // `NF_INET_FORWARD`
    const HOOK_FORWARD: usize = 2;
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
    let number = |at: usize| info[at..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    let size = number(INFO.1 - 4);
    // `valid_hooks`, and of five hooks `hook_entry` and `underflow`.
    let sees_forwarded = number(NAME) >> HOOK_FORWARD & 1 == 1;
    let [first, policy] = [0, 5].map(|hook| number(NAME + 4 + 4 * (hook + HOOK_FORWARD)) as usize);
    let mut rules = named(ENTRIES.1 + size as usize);
    rules[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
    get(socket, level, ENTRIES.0, &mut rules)?;
    rules.drain(..ENTRIES.1);
    Ok(IptablesTable { rules, forward: sees_forwarded.then_some([first, policy]) })
}
