//! Chains and rules of packet filters, as far as one can say without a packet what becomes of a new
//! connection to a pod: conditions on its destination are understood, all others may hold or not.

use std::fmt;

use ipnet::IpNet;
use lb_common::address::Family;

/// Chains whose accepted packets a network plugin chooses by marks and devices of its own.
const OF_PLUGINS: [&str; 2] = ["cali-FORWARD", "KUBE-ROUTER-FORWARD"];

/// Jumps that are followed: more than the kernel allows (`NFT_JUMP_STACK_SIZE`).
const DEPTH: u8 = 17;

/// A chain of a packet filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// Which filter has it, as its tools are called: `nftables` or `iptables`.
    pub filter: &'static str,
    /// The family in nft's words: `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// What becomes of packets that no rule decides about, where it is at the hook `forward`; `None`
    /// for all others.
    pub policy: Option<Policy>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// What becomes of packets at the end of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// They go on.
    Accept,
    /// They are lost.
    Drop,
}

/// A rule: what it does with packets that meet all conditions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Its conditions.
    pub conditions: Vec<Condition>,
    /// What it does.
    pub action: Action,
}

/// What a rule asks of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// To be of this family.
    Family(Family),
    /// To be sent there.
    Destination(IpNet),
    /// To be sent to an address of a set.
    DestinationSet,
    /// To leave by this device, or by those that begin so, where it ends with a star.
    Device(String),
    /// Something else.
    Other,
}

/// What a rule does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// The packet leaves the base chain and goes on.
    Accept,
    /// It is lost, or rejected.
    Drop,
    /// It goes through the chain of this name, and comes back.
    Jump(String),
    /// It goes through the chain of this name, and not back.
    Goto(String),
    /// It leaves this chain.
    Return,
    /// It is counted, marked or logged.
    Nothing,
}

/// What becomes of new connections to pods at a base chain.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Fate {
    /// What drops those that no rule accepts; `None` if nothing does.
    pub dropped: Option<Dropped>,
    /// What is accepted before, in words.
    pub accepted: Vec<String>,
}

/// What drops packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// The base chain's policy.
    ByPolicy,
    /// A rule without conditions in the chain of this name.
    ByRule(String),
}

impl Chain {
    /// Whether both are of one table.
    fn shares_table(&self, other: &Self) -> bool {
        (self.filter, self.family, &self.table) == (other.filter, other.family, &other.table)
    }

    /// Whether packets of `family` come by.
    #[must_use]
    pub fn sees(&self, family: Family) -> bool {
        match self.family {
            "ip" => family == Family::V4,
            "ip6" => family == Family::V6,
            _ => true,
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { filter, family, table, name, .. } = self;
        write!(f, "chain {name} of {filter} table {family} {table}")
    }
}

impl Condition {
    /// In words, where it is about the destination alone.
    fn destination(&self) -> Option<String> {
        match self {
            Self::Destination(prefix) => Some(format!("to {prefix}")),
            Self::DestinationSet => Some("to a set of addresses".into()),
            Self::Device(name) => Some(format!("to device {name}")),
            Self::Family(_) | Self::Other => None,
        }
    }
}

/// How a chain ended for packets that met no condition that is not understood.
enum End {
    Accepted,
    Dropped(String),
}

/// What becomes of new connections of `family` to pods at `base`, one of `chains` at the hook forward.
#[must_use]
pub fn fate(chains: &[Chain], base: &Chain, family: Family) -> Fate {
    let mut fate = Fate::default();
    fate.dropped = match follow(chains, base, family, DEPTH, &mut fate.accepted) {
        Some(End::Accepted) => None,
        Some(End::Dropped(chain)) => Some(Dropped::ByRule(chain)),
        None => (base.policy == Some(Policy::Drop)).then_some(Dropped::ByPolicy),
    };
    fate
}

/// `None` where the packets come back from the chain. What is accepted by its destination is added to
/// `accepted`.
fn follow(
    chains: &[Chain],
    chain: &Chain,
    family: Family,
    depth: u8,
    accepted: &mut Vec<String>,
) -> Option<End> {
    let depth = depth.checked_sub(1)?;
    let target = |name: &str| chains.iter().find(|c| c.name == name && c.shares_table(chain));
    for Rule { conditions, action } in &chain.rules {
        let is_met = |c: &&Condition| **c != Condition::Family(family);
        let open: Vec<&Condition> = conditions.iter().filter(is_met).collect();
        let words: Option<Vec<String>> = open.iter().map(|c| c.destination()).collect();
        // A condition that is not about the destination may hold or not.
        let Some(words) = words else { continue };
        let is_for_all = words.is_empty();
        match action {
            Action::Accept if is_for_all => return Some(End::Accepted),
            Action::Drop if is_for_all => return Some(End::Dropped(chain.name.clone())),
            Action::Return if is_for_all => return None,
            Action::Accept => accepted.push(words.join(" ")),
            Action::Jump(name) if OF_PLUGINS.contains(&name.as_str()) => {
                accepted.push(format!("that {name} accepts"));
            }
            Action::Jump(name) | Action::Goto(name) if is_for_all => {
                let end = target(name).and_then(|c| follow(chains, c, family, depth, accepted));
                if end.is_some() || matches!(action, Action::Goto(_)) {
                    return end;
                }
            }
            Action::Jump(name) | Action::Goto(name) => {
                let mut inner = Vec::new();
                let end = target(name).and_then(|c| follow(chains, c, family, depth, &mut inner));
                if matches!(end, Some(End::Accepted)) || !inner.is_empty() {
                    accepted.push(words.join(" "));
                }
            }
            Action::Drop | Action::Return | Action::Nothing => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
