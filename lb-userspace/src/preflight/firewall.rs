//! Firewalls of the node that may drop what Weir sends to pods. Weir has its own tables, so what it has
//! translated is a new connection to a pod for the kernel's filters, and not one with the status `dnat`
//! that they let pass for kube-proxy. What such a filter lets pass is read as far as one can without a
//! packet: see [`ruleset`].

mod expressions;
mod legacy;
mod nftables;
mod ruleset;

use std::io;

use lb_common::address::Family;

use self::ruleset::{Chain, Dropped, fate};
use super::finding::{Finding, Level};
use super::node::facts::setting;

/// What the findings are about.
const ABOUT: &str = "firewall";

/// What a node filters of what it forwards.
#[derive(Debug)]
pub struct Firewall {
    /// The chains of the tables that see what is forwarded.
    chains: io::Result<Vec<Chain>>,
    /// Whether bridged packets meet these chains (`bridge-nf-call-iptables`, `-ip6tables`); `None`
    /// where the module is not loaded, and they do not.
    bridged: [Option<u32>; 2],
}

impl Firewall {
    /// That of the network namespace we are in.
    #[must_use]
    pub fn local() -> Self {
        let all = || Ok([nftables::read()?, legacy::read()?].concat());
        let bridged = ["iptables", "ip6tables"]
            .map(|tool| setting(&format!("net/bridge/bridge-nf-call-{tool}")));
        Self { chains: all(), bridged }
    }

    /// What it means for a node with addresses of `families`.
    #[must_use]
    pub fn judge(&self, families: &[Family]) -> Vec<Finding> {
        let chains = match &self.chains {
            Ok(chains) => chains,
            Err(error) => {
                return vec![Finding::warn(
                    ABOUT,
                    format!("cannot be seen: {error}"),
                    "run weir check as root, or give its process CAP_NET_ADMIN; or look yourself: what \
                     `nft list ruleset` and `iptables-save` show at the hook forward must accept packets \
                     to and from pods",
                )];
            }
        };
        let bases = chains.iter().filter(|chain| chain.policy.is_some());
        let mut findings: Vec<Finding> =
            bases.filter_map(|base| judge_chain(chains, base, families)).collect();
        if findings.is_empty() {
            findings.push(Finding::ok(ABOUT, "no chain drops what is forwarded"));
        }
        let may_drop = findings.iter().any(|finding| finding.level == Level::Warn);
        findings.extend(self.judge_bridged(may_drop));
        findings
    }

    fn judge_bridged(&self, may_drop: bool) -> Option<Finding> {
        let about = "bridged packets";
        let on = [("iptables", self.bridged[0]), ("ip6tables", self.bridged[1])];
        let on: Vec<String> = on
            .into_iter()
            .filter(|(_, value)| value.is_some_and(|value| value != 0))
            .map(|(tool, _)| format!("net.bridge.bridge-nf-call-{tool}"))
            .collect();
        let settings = on.first()?;
        let found = format!("meet the firewall like forwarded ones ({})", on.join(", "));
        Some(if may_drop {
            Finding::warn(
                about,
                found,
                format!(
                    "what pods of one bridge send each other through a Service may be dropped as well: the \
                     rules above are enough; or, where no network policies depend on it, sysctl -w \
                     {settings}=0"
                ),
            )
        } else {
            Finding::ok(about, format!("{found}, which drops nothing; Weir does not need it"))
        })
    }
}

/// What is to be said about the chain `base`, if it drops anything that is for pods.
fn judge_chain(chains: &[Chain], base: &Chain, families: &[Family]) -> Option<Finding> {
    let families = families.iter().copied().filter(|family| base.sees(*family));
    let fates = families.map(|family| (family, fate(chains, base, family)));
    let dropping: Vec<_> = fates.filter(|(_, fate)| fate.dropped.is_some()).collect();
    let (_, first) = dropping.first()?;
    let how = match first.dropped.as_ref()? {
        Dropped::ByPolicy => "its policy".to_owned(),
        Dropped::ByRule(chain) if *chain == base.name => "a rule for all packets".to_owned(),
        Dropped::ByRule(chain) => format!("a rule for all packets in chain {chain}"),
    };
    let closed: Vec<Family> =
        dropping.iter().filter(|(_, f)| f.accepted.is_empty()).map(|(family, _)| *family).collect();
    if closed.is_empty() {
        let accepted = dropping.iter().flat_map(|(_, fate)| fate.accepted.iter().cloned());
        let mut accepted: Vec<String> = accepted.collect();
        accepted.dedup();
        return Some(Finding::ok(
            ABOUT,
            format!(
                "{base} drops by {how} what no rule accepts; new connections are accepted {}, which must \
                 take in all pods",
                accepted.join(", ")
            ),
        ));
    }
    let has_ufw = chains.iter().any(|chain| {
        chain.table == base.table
            && ["ufw-before-forward", "ufw6-before-forward"].contains(&chain.name.as_str())
    });
    Some(Finding::warn(
        ABOUT,
        format!(
            "{base} may drop what Services' clients send to pods, by {how}; Weir's flows do not have the \
             status dnat that kube-proxy's have"
        ),
        format!(
            "accept packets to and from the pods' addresses, POD_CIDR, unless a rule does already: {}",
            commands(base, &closed, has_ufw)
        ),
    ))
}

/// The commands that open `base` for the pods of these families.
fn commands(base: &Chain, families: &[Family], has_ufw: bool) -> String {
    let Chain { filter, family, table, name, .. } = base;
    if table == "firewalld" {
        return "firewall-cmd --permanent --zone=trusted --add-source=POD_CIDR; firewall-cmd --permanent \
                --new-policy=to-pods; firewall-cmd --permanent --policy=to-pods --add-ingress-zone=ANY; \
                firewall-cmd --permanent --policy=to-pods --add-egress-zone=trusted; firewall-cmd \
                --permanent --policy=to-pods --set-target=ACCEPT; firewall-cmd --reload"
            .into();
    }
    if has_ufw && name == "FORWARD" {
        return "ufw route allow to POD_CIDR; ufw route allow from POD_CIDR".into();
    }
    let is_iptables = *filter == "iptables" || (name == "FORWARD" && *family != "inet");
    let command = |family: &Family, direction: &str| {
        let [tool, protocol] = match family {
            Family::V4 => ["iptables", "ip"],
            Family::V6 => ["ip6tables", "ip6"],
        };
        if is_iptables {
            let older = if *filter == "iptables" { "-legacy" } else { "" };
            let table = if table == "filter" { String::new() } else { format!("-t {table} ") };
            let flag = direction.chars().next().unwrap_or('d');
            format!("{tool}{older} {table}-I FORWARD -{flag} POD_CIDR -j ACCEPT")
        } else {
            let rule = format!("{protocol} {direction} POD_CIDR accept");
            format!("nft insert rule {} {table} {name} {rule}", base.family)
        }
    };
    let all = families.iter().flat_map(|family| ["daddr", "saddr"].map(|way| command(family, way)));
    all.collect::<Vec<String>>().join("; ")
}

#[cfg(test)]
mod tests;
