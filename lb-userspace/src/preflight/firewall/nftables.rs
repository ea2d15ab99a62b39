//! The chains of nftables, where `iptables-nft` writes too, in the tables that have a chain at the hook
//! `forward`: the kernel's messages about them (`include/uapi/linux/netfilter/nf_tables.h`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::expressions;
use super::ruleset::{Chain, Policy, Rule};
use crate::host::netlink::{attribute, values};
use crate::preflight::netfilter::{self, GENERAL};

/// `NFT_MSG_GETCHAIN`, and its attributes.
const GET_CHAIN: u16 = 4;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;

/// `NFTA_HOOK_HOOKNUM`, and what it says of chains at the hook `forward` (`NF_INET_FORWARD`).
const HOOK_NUMBER: u16 = 1;
const FORWARD: u32 = 2;

/// `NFT_MSG_GETRULE`, and its attributes.
const GET_RULE: u16 = 7;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;

/// The families of packets that are forwarded by address, by their numbers (`NFPROTO_*`).
const FAMILIES: [u8; 3] = [1, 2, 10];

/// Chains by the numbers of their families, their tables and names.
type Chains = BTreeMap<(u8, String, String), Chain>;

/// All chains of the tables that have one at the hook `forward`.
///
/// # Errors
/// The kernel's, such as `EPERM` for who lacks `CAP_NET_ADMIN`.
pub fn read() -> io::Result<Vec<Chain>> {
    let mut chains = Chains::new();
    netfilter::list(GET_CHAIN, &[0; GENERAL], |payload| add_chain(&mut chains, payload))?;
    for (number, table) in keep_forwarding(&mut chains) {
        let name = attribute(RULE_TABLE, &[table.as_bytes(), &[0]].concat());
        let request = [&[number, 0, 0, 0][..], &name].concat();
        netfilter::list(GET_RULE, &request, |payload| add_rule(&mut chains, payload))?;
    }
    Ok(chains.into_values().collect())
}

/// Leaves the chains of tables that see what is forwarded, and names these.
fn keep_forwarding(chains: &mut Chains) -> BTreeSet<(u8, String)> {
    let forwarding = chains.iter().filter(|(_, chain)| chain.policy.is_some());
    let tables: BTreeSet<(u8, String)> =
        forwarding.map(|((number, table, _), _)| (*number, table.clone())).collect();
    chains.retain(|(number, table, _), _| tables.contains(&(*number, table.clone())));
    tables
}

fn add_chain(chains: &mut Chains, payload: &[u8]) {
    if let Some((number, chain)) = chain(payload) {
        chains.insert((number, chain.table.clone(), chain.name.clone()), chain);
    }
}

/// A chain without its rules; `None` for one that sees no packet that is forwarded by address.
fn chain(payload: &[u8]) -> Option<(u8, Chain)> {
    let number = *payload.first().filter(|number| FAMILIES.contains(number))?;
    let attributes = payload.get(GENERAL..)?;
    let value = |kind| values(attributes, kind).next();
    let hook = value(CHAIN_HOOK).and_then(|hook| values(hook, HOOK_NUMBER).next());
    let is_forward = hook.and_then(netfilter::number) == Some(FORWARD);
    let policy = match value(CHAIN_POLICY).and_then(netfilter::number) {
        Some(0) => Policy::Drop,
        Some(_) | None => Policy::Accept,
    };
    let chain = Chain {
        filter: "nftables",
        family: netfilter::family(number),
        table: netfilter::text(value(CHAIN_TABLE)?),
        name: netfilter::text(value(CHAIN_NAME)?),
        policy: is_forward.then_some(policy),
        rules: Vec::new(),
    };
    Some((number, chain))
}

fn add_rule(chains: &mut Chains, payload: &[u8]) {
    if let Some((key, rule)) = rule(payload)
        && let Some(chain) = chains.get_mut(&key)
    {
        chain.rules.push(rule);
    }
}

/// A rule, and the key of its chain.
fn rule(payload: &[u8]) -> Option<((u8, String, String), Rule)> {
    let number = *payload.first()?;
    let attributes = payload.get(GENERAL..)?;
    let value = |kind| values(attributes, kind).next();
    // Who adds a rule without expressions, as for a comment alone, has one that does nothing.
    let rule = expressions::rule(value(RULE_EXPRESSIONS).unwrap_or(&[]));
    let [table, chain] = [value(RULE_TABLE)?, value(RULE_CHAIN)?].map(netfilter::text);
    Some(((number, table, chain), rule))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::firewall::ruleset::Action;

    fn named(number: u8, kinds: [u16; 2], more: &[u8]) -> Vec<u8> {
        let [table, chain] = kinds.map(|kind| (kind, b"filter\0"));
        let head = [number, 0, 0, 0];
        [&head, attribute(table.0, table.1).as_slice(), &attribute(chain.0, b"forward\0"), more]
            .concat()
    }

    fn base(number: u8, hook: u32, policy: u32) -> Vec<u8> {
        let hook = attribute(CHAIN_HOOK, &attribute(HOOK_NUMBER, &hook.to_be_bytes()));
        let policy = attribute(CHAIN_POLICY, &policy.to_be_bytes());
        named(number, [CHAIN_TABLE, CHAIN_NAME], &[hook, policy].concat())
    }

    #[test]
    fn the_policy_is_read_of_chains_that_see_what_is_forwarded() {
        let policy = |payload: &[u8]| chain(payload).and_then(|(_, chain)| chain.policy);
        assert_eq!(policy(&base(1, FORWARD, 0)), Some(Policy::Drop));
        assert_eq!(policy(&base(10, FORWARD, 1)), Some(Policy::Accept));
        assert_eq!(policy(&base(2, 1, 0)), None, "the hook input");
        assert_eq!(policy(&named(2, [CHAIN_TABLE, CHAIN_NAME], &[])), None, "no base chain");
        assert_eq!(chain(&base(7, FORWARD, 0)), None, "the family bridge");
        assert_eq!(chain(&[2, 0, 0, 0]), None);
        assert_eq!(chain(&[]), None);
    }

    #[test]
    fn rules_go_to_their_chains_in_tables_that_see_what_is_forwarded() {
        let other = [attribute(CHAIN_TABLE, b"nat\0"), attribute(CHAIN_NAME, b"output\0")];
        let other = [vec![2, 0, 0, 0], other.concat()].concat();
        let mut chains = Chains::new();
        for payload in [base(2, FORWARD, 1), base(10, FORWARD, 1), other] {
            add_chain(&mut chains, &payload);
        }
        let tables = keep_forwarding(&mut chains);
        assert_eq!(tables, [2, 10].map(|number| (number, "filter".into())).into());
        assert_eq!(chains.len(), 2);
        add_rule(&mut chains, &named(10, [RULE_TABLE, RULE_CHAIN], &[]));
        add_rule(&mut chains, &[10, 0, 0, 0]);
        let chains: Vec<&Chain> = chains.values().collect();
        let [v4, v6] = chains.as_slice() else { panic!("{chains:?}") };
        assert!(v4.rules.is_empty());
        assert_eq!(v6.rules, [Rule { conditions: Vec::new(), action: Action::Nothing }]);
    }
}
