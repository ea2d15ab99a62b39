use super::*;

fn chain(name: &str, policy: Option<Policy>, rules: Vec<Rule>) -> Chain {
    let (filter, family, table) = ("nftables", "inet", "filter".into());
    Chain { filter, family, table, name: name.into(), policy, rules }
}

fn rule(conditions: &[Condition], action: Action) -> Rule {
    Rule { conditions: conditions.into(), action }
}

fn to(prefix: &str) -> Condition {
    Condition::Destination(prefix.parse().unwrap())
}

fn jump(name: &str) -> Action {
    Action::Jump(name.into())
}

fn of(policy: Policy, rules: Vec<Rule>, others: Vec<Chain>) -> Fate {
    let base = chain("forward", Some(policy), rules);
    fate(&[vec![base.clone()], others].concat(), &base, Family::V4)
}

const ESTABLISHED: [Condition; 1] = [Condition::Other];

#[test]
fn what_no_rule_decides_about_meets_the_policy() {
    let rules = || vec![rule(&ESTABLISHED, Action::Accept), rule(&[], Action::Nothing)];
    assert_eq!(of(Policy::Drop, rules(), Vec::new()).dropped, Some(Dropped::ByPolicy));
    assert_eq!(of(Policy::Accept, rules(), Vec::new()), Fate::default());
}

#[test]
fn a_rule_without_conditions_decides_and_one_with_conditions_does_not() {
    let reject = rule(&[], Action::Drop);
    let fate = of(Policy::Accept, vec![rule(&ESTABLISHED, Action::Accept), reject.clone()], vec![]);
    assert_eq!(fate.dropped, Some(Dropped::ByRule("forward".into())));
    let fate = of(Policy::Accept, vec![rule(&ESTABLISHED, Action::Drop)], vec![]);
    assert_eq!(fate.dropped, None);
    let fate = of(Policy::Drop, vec![rule(&[], Action::Accept), reject], vec![]);
    assert_eq!(fate.dropped, None);
}

#[test]
fn what_is_accepted_by_its_destination_is_listed() {
    let device = Condition::Device("cni*".into());
    let v4 = Condition::Family(Family::V4);
    let rules = vec![
        rule(&[v4, to("10.244.0.0/16")], Action::Accept),
        rule(&[device], Action::Accept),
        rule(&[Condition::Family(Family::V6), to("fd44::/16")], Action::Accept),
        rule(&[to("10.0.0.0/8"), Condition::Other], Action::Accept),
        rule(&[], Action::Drop),
        rule(&[to("10.1.0.0/16")], Action::Accept),
    ];
    let fate = of(Policy::Accept, rules, Vec::new());
    assert_eq!(fate.accepted, ["to 10.244.0.0/16", "to device cni*"]);
    assert_eq!(fate.dropped, Some(Dropped::ByRule("forward".into())));
}

#[test]
fn chains_are_followed_as_packets_go_through_them() {
    let plugin = chain("FLANNEL-FWD", None, vec![rule(&[to("10.244.0.0/16")], Action::Accept)]);
    let fate = of(Policy::Drop, vec![rule(&[], jump("FLANNEL-FWD"))], vec![plugin]);
    let accepted = vec!["to 10.244.0.0/16".into()];
    assert_eq!(fate, Fate { dropped: Some(Dropped::ByPolicy), accepted });
    // As firewalld has it: zones are left by no return.
    let zone = chain("FWD_public", None, vec![rule(&[], Action::Drop)]);
    let zones = chain("ZONES", None, vec![rule(&[], Action::Goto("FWD_public".into()))]);
    let fate = of(Policy::Accept, vec![rule(&[], jump("ZONES"))], vec![zones, zone]);
    assert_eq!(fate.dropped, Some(Dropped::ByRule("FWD_public".into())));
    let trusted = chain("FWDO_trusted", None, vec![rule(&[], Action::Accept)]);
    let goto = rule(&[to("10.244.0.0/16")], Action::Goto("FWDO_trusted".into()));
    let fate = of(Policy::Drop, vec![goto], vec![trusted]);
    assert_eq!(fate.accepted, ["to 10.244.0.0/16"]);
}

#[test]
fn a_chain_that_returns_decides_nothing_and_one_that_is_not_there_neither() {
    let returns = chain("a", None, vec![rule(&[], Action::Return), rule(&[], Action::Drop)]);
    let fate = of(Policy::Accept, vec![rule(&[], jump("a")), rule(&[], jump("b"))], vec![returns]);
    assert_eq!(fate, Fate::default());
    let round = chain("round", None, vec![rule(&[], jump("round"))]);
    assert_eq!(of(Policy::Accept, vec![rule(&[], jump("round"))], vec![round]), Fate::default());
}

#[test]
fn a_network_plugin_that_marks_what_it_accepts_is_believed() {
    let fate = of(Policy::Drop, vec![rule(&[], jump("cali-FORWARD"))], Vec::new());
    assert_eq!(fate.accepted, ["that cali-FORWARD accepts"]);
}

#[test]
fn a_chain_of_one_family_does_not_see_the_other() {
    let of = |family| Chain { family, ..chain("forward", None, Vec::new()) };
    assert!(of("ip").sees(Family::V4) && !of("ip").sees(Family::V6));
    assert!(of("ip6").sees(Family::V6) && !of("ip6").sees(Family::V4));
    assert!(Family::ALL.into_iter().all(|family| of("inet").sees(family)));
}
