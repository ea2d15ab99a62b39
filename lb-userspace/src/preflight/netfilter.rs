//! Which chains and tables the kernel's packet filters hold, by name: those of nftables, where
//! `iptables-nft` writes too, and those of the older iptables. The kernel is queried as `nft` and
//! `iptables` query it, so neither has to be there. What rules they hold matters to `firewall` alone.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use lb_common::address::Family;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use crate::host::netlink;
use crate::host::syscall::{self, IptablesTable};

/// `NFNL_SUBSYS_NFTABLES`, the high byte of a message's type.
const NFTABLES: u16 = 10 << 8;

/// Bytes of `struct nfgenmsg`, before the attributes (`include/uapi/linux/netfilter/nfnetlink.h`).
pub const GENERAL: usize = 4;

/// What nftables can list.
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
    // `NFT_MSG_GETTABLE` or `NFT_MSG_GETCHAIN`, of all families.
    let message = if kind == Kind::Table { 1 } else { 4 };
    let mut found = Vec::new();
    list(message, &[0; GENERAL], |payload| found.extend(one(kind, payload)))?;
    Ok(found)
}

/// Lists what nftables has of a kind: hands each `message`, behind its header, to `read`.
///
/// # Errors
/// The kernel's. A kernel without nftables has nothing to list, which is no error.
pub fn list(message: u16, request: &[u8], read: impl FnMut(&[u8])) -> io::Result<()> {
    match netlink::request(NETLINK_NETFILTER, NFTABLES | message, libc::NLM_F_DUMP, request, read) {
        // Nobody has registered for the messages.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

/// A table (`NFTA_TABLE_NAME`) or a chain (`NFTA_CHAIN_TABLE`, `NFTA_CHAIN_NAME`); `None` if it has
/// no name.
fn one(kind: Kind, payload: &[u8]) -> Option<Found> {
    let attribute = |wanted| netlink::values(payload.get(GENERAL..)?, wanted).next().map(text);
    let chain = if kind == Kind::Chain { Some(attribute(3)?) } else { None };
    let family = family(*payload.first()?);
    Some(Found { filter: "nftables", family, table: attribute(1)?, chain })
}

/// A name, without the zero bytes that end it.
pub fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

/// A number, most significant byte first.
pub fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// `NFPROTO_*` of `include/uapi/linux/netfilter.h`.
pub fn family(number: u8) -> &'static str {
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
/// that no process used it in, has none, which is no error.
pub fn iptables(name: &str) -> io::Result<Vec<Found>> {
    let tables = iptables_tables()?;
    let has = tables.into_iter().filter(|(_, _, held)| has_chain(&held.rules, name));
    let found = has.map(|(family, table, _)| Found {
        filter: "iptables",
        family: if family == Family::V4 { "ip" } else { "ip6" },
        table,
        chain: Some(name.to_owned()),
    });
    Ok(found.collect())
}

/// The tables of the older iptables, with their families and names.
///
/// # Errors
/// Those of [`iptables`].
pub fn iptables_tables() -> io::Result<Vec<(Family, String, IptablesTable)>> {
    let mut found = Vec::new();
    for (family, names) in
        [(Family::V4, "/proc/net/ip_tables_names"), (Family::V6, "/proc/net/ip6_tables_names")]
    {
        let names = match fs::read_to_string(names) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            names => names?,
        };
        let any = match family {
            Family::V4 => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
            Family::V6 => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
        };
        for name in names.lines() {
            found.push((family, name.to_owned(), syscall::iptables_table(&any, family, name)?));
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

    #[test]
    fn tables_and_chains_are_read_by_their_names() {
        let attribute = netlink::attribute;
        let payload = [vec![2, 0, 0, 0], attribute(2, &[0; 4]), attribute(1, b"kube-proxy\0")];
        let table = one(Kind::Table, &payload.concat()).unwrap();
        assert_eq!(table.to_string(), "nftables table ip kube-proxy");
        let payload = [vec![10, 0, 0, 0], attribute(1, b"nat\0"), attribute(3, b"KUBE-SERVICES\0")];
        let chain = one(Kind::Chain, &payload.concat()).unwrap();
        assert_eq!(chain.to_string(), "chain KUBE-SERVICES in nftables table ip6 nat");
        assert_eq!(one(Kind::Table, &[10, 0, 0, 0]), None);
    }

    #[test]
    fn a_chain_is_found_by_its_whole_name() {
        let rules = b"....ERROR\0\0\0KUBE-SERVICES\0....";
        assert!(has_chain(rules, "KUBE-SERVICES"));
        assert!(!has_chain(rules, "KUBE-SERVICE"));
        assert!(!has_chain(b"", "KUBE-SERVICES"));
    }
}
