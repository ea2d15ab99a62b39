//! Which chains and tables the kernel's packet filters hold, by name: those of nftables, where
//! `iptables-nft` writes too, and those of the older iptables. The kernel is asked as `nft` and
//! `iptables` ask it, so neither has to be there. Which rules they hold is nobody's question here.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use lb_common::address::Family;
use rtnetlink::packet_core::{NetlinkBuffer, NlaBuffer, NlasIterator};
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use crate::syscall;

/// `NFNL_SUBSYS_NFTABLES`, the high byte of a message's type.
const NFTABLES: u16 = 10 << 8;

/// What nftables can be asked to list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Tables.
    Table,
    /// Chains.
    Chain,
}

/// A table or a chain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Found {
    /// Which filter has it, as its tools are called: `nftables` or `iptables`.
    pub filter: &'static str,
    /// The family in nft's words: `ip`, `ip6`, `inet` and so on.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain, if it is one.
    pub chain: Option<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { filter, family, table, chain } = self;
        if let Some(chain) = chain {
            write!(f, "chain {chain} in ")?;
        }
        write!(f, "{filter} table {family} {table}")
    }
}

/// All tables or chains of nftables in this network namespace.
///
/// # Errors
/// The kernel's, such as `EPERM` for who lacks `CAP_NET_ADMIN`. A kernel without nftables has none,
/// which is no error.
pub fn nftables(kind: Kind) -> io::Result<Vec<Found>> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.send(&question(kind), 0)?;
    let mut found = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        match read(kind, &datagram, &mut found) {
            Ok(Part::Last) => return Ok(found),
            Ok(Part::MoreToCome) => {}
            // Nobody has registered for the messages.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    }
}

/// `NFT_MSG_GETTABLE` or `NFT_MSG_GETCHAIN` for all families (`struct nlmsghdr` and
/// `struct nfgenmsg`, `include/uapi/linux/netfilter/nfnetlink.h`).
fn question(kind: Kind) -> Vec<u8> {
    const LENGTH: usize = 20;
    let mut message = vec![0; LENGTH];
    let mut packet = NetlinkBuffer::new(message.as_mut_slice());
    packet.set_length(LENGTH as u32);
    packet.set_message_type(NFTABLES | if kind == Kind::Table { 1 } else { 4 });
    packet.set_flags((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16);
    message
}

#[derive(PartialEq, Eq, Debug)]
enum Part {
    MoreToCome,
    Last,
}

/// Reads the messages of one datagram into `found`.
fn read(kind: Kind, mut datagram: &[u8], found: &mut Vec<Found>) -> io::Result<Part> {
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(datagram).map_err(io::Error::other)?;
        match libc::c_int::from(message.message_type()) {
            libc::NLMSG_DONE => return Ok(Part::Last),
            libc::NLMSG_ERROR => {
                let code =
                    message.payload().first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                return Err(io::Error::from_raw_os_error(-code));
            }
            _ => found.extend(one(kind, message.payload())),
        }
        let next = message.length().next_multiple_of(4) as usize;
        datagram = datagram.get(next..).unwrap_or_default();
    }
    Ok(Part::MoreToCome)
}

/// A table (`NFTA_TABLE_NAME`) or a chain (`NFTA_CHAIN_TABLE`, `NFTA_CHAIN_NAME`); `None` if it has
/// no name.
fn one(kind: Kind, payload: &[u8]) -> Option<Found> {
    const GENERAL: usize = 4;
    let attribute = |wanted: u16| {
        NlasIterator::new(payload.get(GENERAL..)?)
            .filter_map(Result::ok)
            .find(|attribute| attribute.kind() == wanted)
            .map(|attribute| text(&attribute))
    };
    let chain = if kind == Kind::Chain { Some(attribute(3)?) } else { None };
    let family = family(*payload.first()?);
    Some(Found { filter: "nftables", family, table: attribute(1)?, chain })
}

fn text(attribute: &NlaBuffer<&[u8]>) -> String {
    String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned()
}

/// `NFPROTO_*` of `include/uapi/linux/netfilter.h`.
fn family(number: u8) -> &'static str {
    match number {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "of an unknown family",
    }
}

/// The chains called `name` in the tables of the older iptables.
///
/// # Errors
/// The kernel's, such as `EPERM` for who lacks `CAP_NET_ADMIN`. A kernel without iptables, or one
/// that nobody used it in, has none, which is no error.
pub fn iptables(name: &str) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for (family, tables, word) in [
        (Family::V4, "/proc/net/ip_tables_names", "ip"),
        (Family::V6, "/proc/net/ip6_tables_names", "ip6"),
    ] {
        let tables = match fs::read_to_string(tables) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            tables => tables?,
        };
        let any = match family {
            Family::V4 => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
            Family::V6 => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
        };
        for table in tables.lines() {
            if has_chain(&syscall::iptables_rules(&any, family, table)?, name) {
                let (table, chain) = (table.to_owned(), Some(name.to_owned()));
                found.push(Found { filter: "iptables", family: word, table, chain });
            }
        }
    }
    Ok(found)
}

/// A chain begins with an entry whose target holds its name, ended by a zero byte
/// (`struct xt_error_target`, `include/uapi/linux/netfilter/x_tables.h`).
fn has_chain(rules: &[u8], name: &str) -> bool {
    let ended: Vec<u8> = name.bytes().chain([0]).collect();
    rules.windows(ended.len()).any(|window| window == ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut message = vec![0; 16];
        message.extend(payload);
        let mut packet = NetlinkBuffer::new(message.as_mut_slice());
        packet.set_length(16 + payload.len() as u32);
        packet.set_message_type(kind);
        message
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn tables_and_chains_are_read_by_their_names() {
        let payload = [vec![2, 0, 0, 0], attribute(2, &[0; 4]), attribute(1, b"kube-proxy\0")];
        let mut datagram = message(NFTABLES, &payload.concat());
        datagram.extend(message(NFTABLES, &[10, 0, 0, 0]));
        let mut found = Vec::new();
        assert_eq!(read(Kind::Table, &datagram, &mut found).unwrap(), Part::MoreToCome);
        let [table] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(table.to_string(), "nftables table ip kube-proxy");

        let payload = [vec![10, 0, 0, 0], attribute(1, b"nat\0"), attribute(3, b"KUBE-SERVICES\0")];
        let mut datagram = message(NFTABLES | 3, &payload.concat());
        datagram.extend(message(libc::NLMSG_DONE as u16, &[0; 4]));
        let mut found = Vec::new();
        assert_eq!(read(Kind::Chain, &datagram, &mut found).unwrap(), Part::Last);
        assert_eq!(found[0].to_string(), "chain KUBE-SERVICES in nftables table ip6 nat");
    }

    #[test]
    fn a_refusal_is_the_kernel_s_own_error() {
        let datagram = message(libc::NLMSG_ERROR as u16, &(-libc::EPERM).to_ne_bytes());
        let error = read(Kind::Table, &datagram, &mut Vec::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn what_is_cut_short_is_refused_and_never_read_beyond() {
        let whole = message(NFTABLES, &[2, 0, 0, 0]);
        for length in 1..whole.len() {
            assert!(read(Kind::Table, &whole[..length], &mut Vec::new()).is_err(), "{length}");
        }
    }

    #[test]
    fn a_chain_is_found_by_its_whole_name() {
        let rules = b"....ERROR\0\0\0KUBE-SERVICES\0....";
        assert!(has_chain(rules, "KUBE-SERVICES"));
        assert!(!has_chain(rules, "KUBE-SERVICE"));
        assert!(!has_chain(b"", "KUBE-SERVICES"));
    }
}
