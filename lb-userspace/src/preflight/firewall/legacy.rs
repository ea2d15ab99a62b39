//! The chains of the older iptables at the hook `forward`, out of its tables as the kernel holds them:
//! one entry after the other (`include/uapi/linux/netfilter/x_tables.h`, `ip_tables.h` and
//! `ip6_tables.h`). An entry is a rule, or the head of a chain.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use lb_common::address::Family;

use super::ruleset::{Action, Chain, Condition, Policy, Rule};
use crate::host::syscall::IptablesTable;
use crate::preflight::netfilter;

/// Where the parts of `struct ipt_entry` and `struct ip6t_entry` are.
struct Layout {
    /// Bytes of an address; source, destination, and the masks of both come first.
    address: usize,
    /// `proto`; `flags` and `invflags`.
    protocol: usize,
    flags: usize,
    /// `target_offset`, before `next_offset`.
    offsets: usize,
    /// Bytes of the whole, before matches and target.
    size: usize,
    /// `IPT_F_GOTO`, `IP6T_F_GOTO`
    goto: u8,
}

const V4: Layout = Layout { address: 4, protocol: 80, flags: 82, offsets: 88, size: 112, goto: 2 };
const V6: Layout =
    Layout { address: 16, protocol: 128, flags: 131, offsets: 140, size: 168, goto: 4 };

/// Bytes of a name (`IFNAMSIZ`), and of the head of a match or target (`struct xt_entry_target`).
const DEVICE: usize = 16;
const HEAD: usize = 32;

/// What a rule does, where jumps still lead to an offset.
enum Target {
    Action(Action),
    Jump {
        offset: usize,
        returns: bool,
    },
    /// The head of a chain, or `ERROR` at the end of the table.
    Head(String),
}

/// An entry at an offset, and the offset behind it.
struct Entry {
    offset: usize,
    next: usize,
    conditions: Vec<Condition>,
    target: Target,
}

/// The chains of all tables that see what is forwarded, in both families.
///
/// # Errors
/// The kernel's, such as `EPERM` for who lacks `CAP_NET_ADMIN`.
pub fn read() -> io::Result<Vec<Chain>> {
    let tables = netfilter::iptables_tables()?;
    Ok(tables.iter().flat_map(|(family, name, table)| chains(*family, name, table)).collect())
}

/// Those of one table; none if it sees nothing that is forwarded.
fn chains(family: Family, table: &str, held: &IptablesTable) -> Vec<Chain> {
    let Some([first, policy]) = held.forward else { return Vec::new() };
    let entries = entries(family, &held.rules);
    let heads: Vec<(usize, &str)> = entries.iter().filter_map(Entry::head).collect();
    let chain = |name: &str, policy, rules| Chain {
        filter: "iptables",
        family: if family == Family::V4 { "ip" } else { "ip6" },
        table: table.to_owned(),
        name: name.to_owned(),
        policy,
        rules,
    };
    let at_end = entries.iter().find(|entry| entry.offset == policy);
    let decides = at_end.and_then(|entry| entry.rule(&heads)).map(|rule| rule.action);
    let decides = if decides == Some(Action::Drop) { Policy::Drop } else { Policy::Accept };
    let base = entries.iter().filter(|entry| (first..policy).contains(&entry.offset));
    let base = base.filter_map(|entry| entry.rule(&heads)).collect();
    let mut chains = vec![chain("FORWARD", Some(decides), base)];
    for (begin, name) in &heads {
        let own = entries.get(entries.partition_point(|entry| entry.offset < *begin)..);
        let own = own.into_iter().flatten().map_while(|entry| entry.rule(&heads)).collect();
        chains.push(chain(name, None, own));
    }
    chains
}

impl Entry {
    /// Where the chain begins whose head it is, and the chain's name.
    fn head(&self) -> Option<(usize, &str)> {
        match &self.target {
            Target::Head(name) => Some((self.next, name)),
            Target::Action(_) | Target::Jump { .. } => None,
        }
    }

    /// The rule it is, if it is one, with jumps to the chains that begin at `heads`.
    fn rule(&self, heads: &[(usize, &str)]) -> Option<Rule> {
        let action = match &self.target {
            Target::Action(action) => action.clone(),
            // A rule without a target leads to the next one.
            Target::Jump { offset, .. } if *offset == self.next => Action::Nothing,
            Target::Jump { offset, returns } => {
                let head = heads.binary_search_by_key(offset, |(begin, _)| *begin);
                match head.ok().and_then(|at| heads.get(at)) {
                    Some((_, name)) if *returns => Action::Jump((*name).to_owned()),
                    Some((_, name)) => Action::Goto((*name).to_owned()),
                    None => Action::Nothing,
                }
            }
            Target::Head(_) => return None,
        };
        Some(Rule { conditions: self.conditions.clone(), action })
    }
}

/// All entries, up to one that cannot be read.
fn entries(family: Family, rules: &[u8]) -> Vec<Entry> {
    let layout = if family == Family::V4 { V4 } else { V6 };
    let mut entries: Vec<Entry> = Vec::new();
    while let Some(entry) = entry(&layout, rules, entries.last().map_or(0, |last| last.next)) {
        entries.push(entry);
    }
    entries
}

fn entry(layout: &Layout, rules: &[u8], offset: usize) -> Option<Entry> {
    let rest = rules.get(offset..)?;
    let target = half(rest, layout.offsets)?;
    let length = half(rest, layout.offsets + 2)?;
    let whole = rest.get(..length).filter(|_| length >= layout.size)?;
    let returns = whole.get(layout.flags)? & layout.goto == 0;
    let mut conditions = of_header(layout, whole)?;
    conditions.extend(of_matches(whole.get(layout.size..target)?)?);
    let target = of_target(whole.get(target..)?, returns)?;
    Some(Entry { offset, next: offset + length, conditions, target })
}

/// What the fixed part asks for: addresses, devices, a protocol.
fn of_header(layout: &Layout, entry: &[u8]) -> Option<Vec<Condition>> {
    let bytes = |from: usize, length| entry.get(from..from + length);
    let is_set = |bytes: &[u8]| bytes.iter().any(|byte| *byte != 0);
    let address = |index| bytes(index * layout.address, layout.address);
    let device = |index| bytes(4 * layout.address + index * DEVICE, DEVICE);
    // Source, the device it comes by, the protocol; what is inverted, or is about fragments.
    let flags = bytes(layout.flags, 2)?;
    let others = [address(2)?, device(2)?, bytes(layout.protocol, 2)?, &flags[1..]];
    // `IPT_F_FRAG`; the same bit says for IPv6 that a protocol is asked for.
    let is_fragment = flags[0] & 1 != 0 && layout.goto == V4.goto;
    let mut conditions = Vec::new();
    if others.into_iter().any(is_set) || is_fragment {
        conditions.push(Condition::Other);
    }
    if is_set(address(3)?) {
        conditions.push(destination(address(1)?, address(3)?).unwrap_or(Condition::Other));
    }
    let mask = device(3)?;
    if is_set(mask) {
        let name = netfilter::text(device(1)?);
        // The zero byte behind the name is compared, too, unless others may begin so.
        let is_whole = mask.get(name.len()).is_none_or(|byte| *byte != 0);
        conditions.push(Condition::Device(if is_whole { name } else { format!("{name}*") }));
    }
    Some(conditions)
}

fn destination(address: &[u8], mask: &[u8]) -> Option<Condition> {
    let ip = |bytes: &[u8]| match *bytes {
        [a, b, c, d] => Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
        _ => bytes.first_chunk::<16>().map(|bytes| IpAddr::V6(Ipv6Addr::from(*bytes))),
    };
    IpNet::with_netmask(ip(address)?, ip(mask)?).ok().map(Condition::Destination)
}

/// What matches ask for: nothing, if they are comments.
fn of_matches(mut matches: &[u8]) -> Option<Vec<Condition>> {
    let mut conditions = Vec::new();
    while !matches.is_empty() {
        let length = half(matches, 0).filter(|length| *length >= HEAD)?;
        if name(matches)? != "comment" {
            conditions.push(Condition::Other);
        }
        matches = matches.get(length..)?;
    }
    Some(conditions)
}

/// `struct xt_standard_target` has a verdict or an offset, `struct xt_error_target` a name.
fn of_target(target: &[u8], returns: bool) -> Option<Target> {
    const DROP: i32 = -1;
    const ACCEPT: i32 = -2;
    const RETURN: i32 = -5;
    let data = target.get(HEAD..)?;
    Some(Target::Action(match name(target)?.as_str() {
        "" => match i32::from_ne_bytes(*data.first_chunk()?) {
            DROP => Action::Drop,
            ACCEPT => Action::Accept,
            RETURN => Action::Return,
            offset => match usize::try_from(offset) {
                Ok(offset) => return Some(Target::Jump { offset, returns }),
                Err(_) => Action::Nothing,
            },
        },
        "ERROR" => return Some(Target::Head(netfilter::text(data.split(|b| *b == 0).next()?))),
        "REJECT" => Action::Drop,
        _ => Action::Nothing,
    }))
}

/// The name in the head of a match or target, behind its length.
fn name(bytes: &[u8]) -> Option<String> {
    const LENGTH: usize = 29;
    let name = bytes.get(2..2 + LENGTH)?;
    Some(netfilter::text(name.split(|byte| *byte == 0).next()?))
}

fn half(bytes: &[u8], offset: usize) -> Option<usize> {
    bytes.get(offset..)?.first_chunk().map(|half| usize::from(u16::from_ne_bytes(*half)))
}

#[cfg(test)]
mod tests;
