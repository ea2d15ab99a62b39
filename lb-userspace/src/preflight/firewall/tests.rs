use super::ruleset::{Action, Condition, Policy, Rule};
use super::*;

fn chain(family: &'static str, table: &str, name: &str, policy: Option<Policy>) -> Chain {
    let rules = Vec::new();
    Chain { filter: "nftables", family, table: table.into(), name: name.into(), policy, rules }
}

fn rule(conditions: &[Condition], action: Action) -> Rule {
    Rule { conditions: conditions.into(), action }
}

fn with(chains: &[Chain]) -> Firewall {
    Firewall { chains: Ok(chains.to_vec()), bridged: [None; 2] }
}

/// The one warning about these chains, and its advice.
#[track_caller]
fn warned(chains: &[Chain]) -> (String, String) {
    let findings = with(chains).judge(&Family::ALL);
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!(finding.level, Level::Warn, "{finding:?}");
    (finding.found.clone(), finding.advice.clone().unwrap())
}

#[test]
fn a_node_whose_chains_let_everything_pass_has_nothing_to_change() {
    let open = chain("inet", "filter", "forward", Some(Policy::Accept));
    for chains in [vec![], vec![open]] {
        let findings = with(&chains).judge(&Family::ALL);
        assert_eq!(findings, [Finding::ok(ABOUT, "no chain drops what is forwarded")]);
    }
}

#[test]
fn a_chain_of_nftables_that_drops_is_named_with_rules_for_both_families() {
    let (found, advice) = warned(&[chain("inet", "fw", "routed", Some(Policy::Drop))]);
    assert!(found.contains("chain routed of nftables table inet fw may drop"), "{found}");
    assert!(found.contains("by its policy"), "{found}");
    for way in ["ip daddr", "ip saddr", "ip6 daddr", "ip6 saddr"] {
        let command = format!("nft insert rule inet fw routed {way} POD_CIDR accept");
        assert!(advice.contains(&command), "{advice}");
    }
}

#[test]
fn iptables_with_the_policy_drop_as_docker_sets_it_is_opened_by_its_own_tool() {
    let v4 = chain("ip", "filter", "FORWARD", Some(Policy::Drop));
    let (_, advice) = warned(std::slice::from_ref(&v4));
    assert!(advice.ends_with(
        "iptables -I FORWARD -d POD_CIDR -j ACCEPT; iptables -I FORWARD -s POD_CIDR -j ACCEPT"
    ));
    let v6 = chain("ip6", "mangle", "FORWARD", Some(Policy::Drop));
    assert!(warned(&[v6]).1.contains("ip6tables -t mangle -I FORWARD -d POD_CIDR -j ACCEPT"));
    let older = Chain { filter: "iptables", ..v4.clone() };
    let (found, advice) = warned(&[older]);
    assert!(found.contains("chain FORWARD of iptables table ip filter"), "{found}");
    assert!(advice.contains("iptables-legacy -I FORWARD -d POD_CIDR -j ACCEPT"), "{advice}");
    let ufw = chain("ip", "filter", "ufw-before-forward", None);
    assert!(
        warned(&[v4, ufw])
            .1
            .ends_with("ufw route allow to POD_CIDR; ufw route allow from POD_CIDR")
    );
}

#[test]
fn firewalld_is_known_by_its_table_and_its_chain_of_a_zone() {
    let mut base = chain("inet", "firewalld", "filter_FORWARD", Some(Policy::Accept));
    base.rules.push(rule(&[Condition::Other], Action::Accept));
    base.rules.push(rule(&[], Action::Jump("filter_FWD_public".into())));
    let mut zone = chain("inet", "firewalld", "filter_FWD_public", None);
    zone.rules.push(rule(&[], Action::Drop));
    let (found, advice) = warned(&[base, zone]);
    assert!(found.contains("a rule for all packets in chain filter_FWD_public"), "{found}");
    for command in ["--zone=trusted --add-source=POD_CIDR", "--set-target=ACCEPT", "--reload"] {
        assert!(advice.contains(&format!("firewall-cmd {command}")) || advice.contains(command));
    }
}

#[test]
fn a_chain_that_accepts_pods_first_is_named_with_what_makes_it_fine() {
    let mut base = chain("ip", "filter", "FORWARD", Some(Policy::Drop));
    let pods = Condition::Destination("10.244.0.0/16".parse().unwrap());
    base.rules.push(rule(&[pods], Action::Accept));
    let findings = with(&[base]).judge(&Family::ALL);
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!(finding.level, Level::Ok);
    assert!(finding.found.contains("accepted to 10.244.0.0/16, which must take in all pods"));
}

#[test]
fn a_family_that_the_node_has_no_addresses_of_does_not_matter() {
    let v6 = chain("ip6", "filter", "FORWARD", Some(Policy::Drop));
    let level = |families: &[Family]| with(std::slice::from_ref(&v6)).judge(families)[0].level;
    assert_eq!(level(&[Family::V4]), Level::Ok);
    assert_eq!(level(&Family::ALL), Level::Warn);
    let mut both = chain("inet", "filter", "forward", Some(Policy::Drop));
    let pods = Condition::Destination("10.244.0.0/16".parse().unwrap());
    both.rules.push(rule(&[Condition::Family(Family::V4), pods], Action::Accept));
    let judge = |families: &[Family]| with(std::slice::from_ref(&both)).judge(families).remove(0);
    assert_eq!(judge(&[Family::V4]).level, Level::Ok);
    let advice = judge(&Family::ALL).advice.unwrap();
    assert!(advice.contains("ip6 daddr") && !advice.contains("ip daddr"), "{advice}");
}

#[test]
fn bridged_packets_matter_where_a_chain_may_drop_them() {
    let closed = chain("ip", "filter", "FORWARD", Some(Policy::Drop));
    let about = |bridged, chains: &[Chain]| {
        let firewall = Firewall { bridged, ..with(chains) };
        let mut findings = firewall.judge(&Family::ALL).into_iter();
        findings.find(|finding| finding.about == "bridged packets")
    };
    assert_eq!(about([None, None], &[]), None);
    assert_eq!(about([Some(0), Some(0)], std::slice::from_ref(&closed)), None);
    assert_eq!(about([Some(1), Some(1)], &[]).unwrap().level, Level::Ok);
    let finding = about([Some(1), Some(1)], &[closed]).unwrap();
    assert_eq!(finding.level, Level::Warn);
    assert!(finding.advice.unwrap().contains("sysctl -w net.bridge.bridge-nf-call-iptables=0"));
}

#[test]
fn chains_that_cannot_be_seen_are_not_taken_for_none() {
    let refused = Err(io::Error::from_raw_os_error(libc::EPERM));
    let firewall = Firewall { chains: refused, bridged: [None; 2] };
    let findings = firewall.judge(&Family::ALL);
    assert_eq!(findings[0].level, Level::Warn);
    assert!(findings[0].found.contains("cannot be seen: Operation not permitted"));
    assert!(findings[0].advice.as_ref().unwrap().contains("CAP_NET_ADMIN"));
}
