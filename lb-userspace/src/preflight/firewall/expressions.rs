//! What a rule of nftables asks of a packet and does with it, out of the expressions that the kernel
//! runs one after the other (`include/uapi/linux/netfilter/nf_tables.h`). What is not understood is a
//! condition that may hold or not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use lb_common::address::Family;

use super::ruleset::{Action, Condition, Rule};
use crate::host::devices;
use crate::host::netlink::values;
use crate::preflight::netfilter::{number, text};

/// `NFTA_LIST_ELEM`, `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`.
const ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;

/// `NFTA_DATA_VALUE` and `NFTA_DATA_VERDICT`; of a verdict its code and chain.
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
const CODE: u16 = 1;
const CHAIN: u16 = 2;

/// Bytes in front of the destination's address in an IP header.
const DESTINATION: [(Family, u32, u32); 2] = [(Family::V4, 16, 4), (Family::V6, 24, 16)];

/// What was loaded of the packet last.
enum Loaded {
    /// So many bytes of the destination's address, and those bits of them that are compared.
    Destination { family: Family, length: u32, mask: Vec<u8> },
    /// `NFT_META_NFPROTO`
    Family,
    /// `NFT_META_PROTOCOL`
    EtherType,
    /// `NFT_META_OIFNAME`
    DeviceName,
    /// `NFT_META_OIF`
    DeviceIndex,
    /// Something else.
    Other,
}

/// The rule made of these expressions.
pub fn rule(expressions: &[u8]) -> Rule {
    let mut rule = Rule { conditions: Vec::new(), action: Action::Nothing };
    let mut loaded = Loaded::Other;
    for expression in values(expressions, ELEMENT) {
        // What has no name is not understood, and what needs no data may have none.
        let name = values(expression, NAME).next().map_or_else(String::new, text);
        let data = values(expression, DATA).next().unwrap_or(&[]);
        match name.as_str() {
            "counter" | "log" => {}
            "payload" => loaded = payload(data),
            "meta" => loaded = meta(data),
            "bitwise" => loaded = masked(loaded, data),
            "cmp" => rule.conditions.push(compared(&loaded, data)),
            "lookup" => rule.conditions.push(looked_up(&loaded, data)),
            "match" if values(data, NAME).any(|name| text(name) == "comment") => {}
            "immediate" => rule.action = verdict(data).unwrap_or(rule.action),
            "reject" => rule.action = Action::Drop,
            "target" if values(data, NAME).any(drops) => rule.action = Action::Drop,
            "target" => {}
            name if loads(name) => loaded = Loaded::Other,
            _ => rule.conditions.push(Condition::Other),
        }
    }
    rule
}

/// Whether a target of iptables is one that loses packets.
fn drops(name: &[u8]) -> bool {
    ["REJECT", "DROP"].contains(&text(name).as_str())
}

/// Whether an expression asks nothing by itself; what it loads is compared by another.
fn loads(name: &str) -> bool {
    ["ct", "exthdr", "fib", "hash", "numgen", "osf", "rt", "socket", "tunnel", "xfrm"]
        .contains(&name)
}

/// `NFTA_PAYLOAD_BASE`, `_OFFSET`, `_LEN`.
fn payload(data: &[u8]) -> Loaded {
    const NETWORK_HEADER: u32 = 1;
    let [base, offset, length] = [2, 3, 4].map(|kind| first(data, kind));
    let (Some(NETWORK_HEADER), Some(offset), Some(length)) = (base, offset, length) else {
        return Loaded::Other;
    };
    let is_it = |(_, from, bytes): &(Family, u32, u32)| offset == *from && length <= *bytes;
    match DESTINATION.into_iter().find(is_it) {
        Some((family, ..)) => {
            Loaded::Destination { family, length, mask: vec![0xff; length as usize] }
        }
        None => Loaded::Other,
    }
}

/// `NFTA_META_KEY`, unless something is set.
fn meta(data: &[u8]) -> Loaded {
    match first(data, 2) {
        Some(1) => Loaded::EtherType,
        Some(5) => Loaded::DeviceIndex,
        Some(7) => Loaded::DeviceName,
        Some(15) => Loaded::Family,
        Some(_) | None => Loaded::Other,
    }
}

/// `NFTA_BITWISE_MASK`
fn masked(loaded: Loaded, data: &[u8]) -> Loaded {
    let bits = values(data, 4).next().and_then(|mask| values(mask, VALUE).next());
    match (loaded, bits) {
        (Loaded::Destination { family, length, .. }, Some(bits)) => {
            Loaded::Destination { family, length, mask: bits.into() }
        }
        _ => Loaded::Other,
    }
}

/// `NFTA_CMP_OP` and `NFTA_CMP_DATA`.
fn compared(loaded: &Loaded, data: &[u8]) -> Condition {
    const EQUAL: u32 = 0;
    let value = values(data, 3).next().and_then(|value| values(value, VALUE).next());
    let (Some(EQUAL), Some(value)) = (first(data, 2), value) else { return Condition::Other };
    let condition = match loaded {
        Loaded::Destination { family, mask, .. } => prefix(*family, value, mask),
        Loaded::Family => match value.first() {
            Some(2) => Some(Condition::Family(Family::V4)),
            Some(10) => Some(Condition::Family(Family::V6)),
            Some(_) | None => None,
        },
        Loaded::EtherType => match value {
            [0x08, 0x00, ..] => Some(Condition::Family(Family::V4)),
            [0x86, 0xdd, ..] => Some(Condition::Family(Family::V6)),
            _ => None,
        },
        Loaded::DeviceName => Some(Condition::Device(match value.last() {
            // The whole name is compared with the zero byte that ends it.
            Some(0) => text(value),
            Some(_) | None => format!("{}*", text(value)),
        })),
        Loaded::DeviceIndex => value
            .first_chunk()
            .map(|index| Condition::Device(devices::name(u32::from_ne_bytes(*index)))),
        Loaded::Other => None,
    };
    condition.unwrap_or(Condition::Other)
}

/// `NFTA_LOOKUP_DREG` of a map, `NFTA_LOOKUP_FLAGS` of what must not be in the set.
fn looked_up(loaded: &Loaded, data: &[u8]) -> Condition {
    let is_map = first(data, 3).is_some();
    let is_inverted = first(data, 5).is_some_and(|flags| flags != 0);
    if matches!(loaded, Loaded::Destination { .. }) && !is_map && !is_inverted {
        Condition::DestinationSet
    } else {
        Condition::Other
    }
}

/// The condition to be sent to an address that has these bits where the mask has ones.
fn prefix(family: Family, value: &[u8], mask: &[u8]) -> Option<Condition> {
    let length: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let leading = mask.iter().take_while(|byte| **byte == 0xff).count() as u32 * 8
        + mask.iter().find(|byte| **byte != 0xff).map_or(0, |byte| byte.leading_ones());
    let mut bytes = [0; 16];
    bytes.get_mut(..value.len())?.copy_from_slice(value);
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk::<4>()?)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(bytes)),
    };
    let prefix = IpNet::new(address, u8::try_from(length).ok()?).ok()?;
    (leading == length).then_some(Condition::Destination(prefix))
}

/// `NFTA_IMMEDIATE_DATA`, if it is a verdict.
fn verdict(data: &[u8]) -> Option<Action> {
    let verdict = values(values(data, 2).next()?, VERDICT).next()?;
    let chain = || values(verdict, CHAIN).next().map(text);
    Some(match first(verdict, CODE)?.cast_signed() {
        0 => Action::Drop,
        1 => Action::Accept,
        -3 => Action::Jump(chain()?),
        -4 => Action::Goto(chain()?),
        -5 => Action::Return,
        _ => return None,
    })
}

/// The number in the first attribute of this kind.
fn first(data: &[u8], kind: u16) -> Option<u32> {
    values(data, kind).next().and_then(number)
}

#[cfg(test)]
mod tests;
