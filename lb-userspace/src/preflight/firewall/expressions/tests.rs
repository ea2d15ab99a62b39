use super::*;
use crate::host::netlink::attribute;

/// A list of expressions: their names and their data.
fn read(expressions: &[(&str, Vec<u8>)]) -> Rule {
    let element = |(name, data): &(&str, Vec<u8>)| {
        let name = attribute(NAME, &[name.as_bytes(), &[0]].concat());
        attribute(ELEMENT, &[name, attribute(DATA, data)].concat())
    };
    rule(&expressions.iter().flat_map(element).collect::<Vec<u8>>())
}

fn word(kind: u16, number: u32) -> Vec<u8> {
    attribute(kind, &number.to_be_bytes())
}

fn load(base: u32, offset: u32, length: u32) -> (&'static str, Vec<u8>) {
    ("payload", [word(1, 1), word(2, base), word(3, offset), word(4, length)].concat())
}

fn meta(key: u32) -> (&'static str, Vec<u8>) {
    ("meta", [word(1, 1), word(2, key)].concat())
}

fn mask(bits: &[u8]) -> (&'static str, Vec<u8>) {
    ("bitwise", attribute(4, &attribute(VALUE, bits)))
}

fn compare(operation: u32, value: &[u8]) -> (&'static str, Vec<u8>) {
    ("cmp", [word(2, operation), attribute(3, &attribute(VALUE, value))].concat())
}

fn verdict(code: i32, chain: &str) -> (&'static str, Vec<u8>) {
    let mut verdict = attribute(CODE, &code.to_be_bytes());
    if !chain.is_empty() {
        verdict.extend(attribute(CHAIN, &[chain.as_bytes(), &[0]].concat()));
    }
    ("immediate", [word(1, 0), attribute(2, &attribute(VERDICT, &verdict))].concat())
}

#[track_caller]
fn asks(expressions: &[(&str, Vec<u8>)], expected: &[Condition]) {
    assert_eq!(read(expressions).conditions, expected);
}

fn to(prefix: &str) -> Condition {
    Condition::Destination(prefix.parse().unwrap())
}

#[test]
fn a_destination_is_read_as_nft_writes_it_in_whole_bytes_or_masked() {
    let v4 = [meta(15), compare(0, &[2]), load(1, 16, 2), compare(0, &[10, 244])];
    asks(&v4, &[Condition::Family(Family::V4), to("10.244.0.0/16")]);
    let masked = [load(1, 16, 4), mask(&[255, 255, 128, 0]), compare(0, &[10, 244, 0, 0])];
    asks(&masked, &[to("10.244.0.0/17")]);
    let v6 = [meta(1), compare(0, &[0x86, 0xdd]), load(1, 24, 2), compare(0, &[0xfd, 0x44])];
    asks(&v6, &[Condition::Family(Family::V6), to("fd44::/16")]);
    let set = [load(1, 16, 4), ("lookup", [attribute(1, b"pods\0"), word(2, 1)].concat())];
    asks(&set, &[Condition::DestinationSet]);
}

#[test]
fn a_device_is_read_with_a_star_where_its_name_only_begins_so() {
    asks(&[meta(7), compare(0, b"cni0\0")], &[Condition::Device("cni0".into())]);
    asks(&[meta(7), compare(0, b"cni")], &[Condition::Device("cni*".into())]);
    asks(&[meta(5), compare(0, &1u32.to_ne_bytes())], &[Condition::Device("lo".into())]);
}

#[test]
fn what_is_not_about_the_destination_is_another_condition() {
    for expressions in [
        vec![load(1, 12, 4), compare(0, &[10, 0, 0, 1])],
        vec![load(2, 16, 2), compare(0, &[0, 80])],
        vec![load(1, 16, 4), compare(1, &[10, 0, 0, 1])],
        vec![load(1, 16, 4), mask(&[0, 255, 0, 0]), compare(0, &[0, 244, 0, 0])],
        vec![("ct", word(2, 0)), mask(&[6, 0, 0, 0]), compare(1, &[0, 0, 0, 0])],
        vec![load(1, 16, 4), ("lookup", [word(2, 1), word(3, 0)].concat())],
        vec![load(1, 16, 4), ("lookup", [word(2, 1), word(5, 1)].concat())],
        vec![("limit", Vec::new())],
        vec![("match", attribute(NAME, b"conntrack\0"))],
        vec![meta(15), compare(0, &[7])],
    ] {
        asks(&expressions, &[Condition::Other]);
    }
}

#[test]
fn counting_logging_and_comments_ask_nothing() {
    let comment = ("match", attribute(NAME, b"comment\0"));
    asks(&[("counter", Vec::new()), comment, ("log", Vec::new())], &[]);
}

#[test]
fn what_a_rule_does_is_read() {
    let does = |expression| read(&[("counter", Vec::new()), expression]).action;
    assert_eq!(does(verdict(0, "")), Action::Drop);
    assert_eq!(does(verdict(1, "")), Action::Accept);
    assert_eq!(does(verdict(-3, "zones")), Action::Jump("zones".into()));
    assert_eq!(does(verdict(-4, "zones")), Action::Goto("zones".into()));
    assert_eq!(does(verdict(-5, "")), Action::Return);
    assert_eq!(does(("reject", Vec::new())), Action::Drop);
    assert_eq!(does(("target", attribute(NAME, b"REJECT\0"))), Action::Drop);
    assert_eq!(does(("target", attribute(NAME, b"MARK\0"))), Action::Nothing);
    assert_eq!(does(("immediate", word(1, 1))), Action::Nothing);
}

#[test]
fn what_is_cut_short_is_read_as_far_as_it_goes() {
    let expressions = [load(1, 16, 2), compare(0, &[10, 244]), verdict(1, "")];
    let element = |(name, data): &(&str, Vec<u8>)| {
        let name = attribute(NAME, &[name.as_bytes(), &[0]].concat());
        attribute(ELEMENT, &[name, attribute(DATA, data)].concat())
    };
    let whole: Vec<u8> = expressions.iter().flat_map(element).collect();
    for length in 0..whole.len() {
        assert!(rule(&whole[..length]).conditions.len() <= 1, "{length}");
    }
}
