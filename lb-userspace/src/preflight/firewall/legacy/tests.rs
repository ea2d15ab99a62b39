use super::*;

const HOOKS: usize = 0;

/// A table of entries that are written one after the other.
struct Written {
    layout: Layout,
    rules: Vec<u8>,
}

impl Written {
    fn new(layout: Layout) -> Self {
        Self { layout, rules: Vec::new() }
    }

    /// Adds an entry with this head and behind it matches and a target; returns where it is.
    fn add(&mut self, change: impl Fn(&mut [u8]), matches: &[&str], target: &[u8]) -> usize {
        let Layout { size, offsets, .. } = self.layout;
        let mut entry = vec![0; size];
        change(&mut entry);
        entry.extend(matches.iter().flat_map(|name| part(name, &[0; 8])));
        let begin = entry.len() as u16;
        entry.extend(target);
        let length = entry.len() as u16;
        entry[offsets..offsets + 2].copy_from_slice(&begin.to_ne_bytes());
        entry[offsets + 2..offsets + 4].copy_from_slice(&length.to_ne_bytes());
        let at = self.rules.len();
        self.rules.extend(entry);
        at
    }

    fn head(&mut self, name: &str) -> usize {
        let mut ended = name.as_bytes().to_vec();
        ended.resize(32, 0);
        self.add(|_| {}, &[], &part("ERROR", &ended))
    }

    fn read(self, forward: [usize; 2]) -> Vec<Chain> {
        let family = if self.layout.address == 4 { Family::V4 } else { Family::V6 };
        let held = IptablesTable { rules: self.rules, forward: Some(forward) };
        chains(family, "filter", &held)
    }
}

/// A match or a target.
fn part(name: &str, data: &[u8]) -> Vec<u8> {
    let mut part = ((HEAD + data.len()) as u16).to_ne_bytes().to_vec();
    part.extend(name.as_bytes());
    part.resize(HEAD, 0);
    part.extend(data);
    part
}

/// The standard target: a verdict, or an offset to jump to.
fn verdict(verdict: i32) -> Vec<u8> {
    part("", &[verdict.to_ne_bytes(), [0; 4]].concat())
}

fn to_pods(entry: &mut [u8]) {
    entry[4..8].copy_from_slice(&[10, 244, 0, 0]);
    entry[12..16].copy_from_slice(&[255, 255, 0, 0]);
}

#[test]
fn the_policy_and_the_rules_of_forward_are_read_and_no_other_hooks() {
    let mut written = Written::new(V4);
    written.add(|_| {}, &[], &verdict(-1));
    let first = written.add(to_pods, &["comment"], &verdict(-2));
    written.add(|_| {}, &["conntrack"], &verdict(-2));
    written.add(|_| {}, &[], &part("LOG", &[0; 40]));
    let policy = written.add(|_| {}, &[], &verdict(-1));
    written.add(|_| {}, &[], &verdict(-2));
    written.head("ERROR");
    let chains = written.read([first, policy]);
    assert_eq!(chains[HOOKS].name, "FORWARD");
    assert_eq!(chains[HOOKS].policy, Some(Policy::Drop));
    let pods = Condition::Destination("10.244.0.0/16".parse().unwrap());
    let expected = [
        Rule { conditions: vec![pods], action: Action::Accept },
        Rule { conditions: vec![Condition::Other], action: Action::Accept },
        Rule { conditions: Vec::new(), action: Action::Nothing },
    ];
    assert_eq!(chains[HOOKS].rules, expected);
}

#[test]
fn jumps_lead_to_chains_by_their_names() {
    let mut written = Written::new(V4);
    // What the offsets are is known once the entries are written: the heads have 176 bytes.
    let size = 112 + verdict(0).len();
    let begin = 4 * size + 112 + HEAD + 32;
    let first = written.add(|_| {}, &[], &verdict(begin as i32));
    written.add(|entry| entry[V4.flags] = V4.goto, &[], &verdict(begin as i32));
    written.add(|_| {}, &[], &verdict(3 * size as i32));
    let policy = written.add(|_| {}, &[], &verdict(-2));
    assert_eq!(written.head("pods"), 4 * size);
    assert_eq!(written.add(|_| {}, &[], &part("REJECT", &[0; 8])), begin);
    written.add(|_| {}, &[], &verdict(-5));
    written.head("ERROR");
    let chains = written.read([first, policy]);
    let actions: Vec<&Action> = chains[HOOKS].rules.iter().map(|rule| &rule.action).collect();
    let pods = || "pods".to_owned();
    assert_eq!(actions, [&Action::Jump(pods()), &Action::Goto(pods()), &Action::Nothing]);
    assert_eq!(chains[HOOKS].policy, Some(Policy::Accept));
    let actions: Vec<&Action> = chains[1].rules.iter().map(|rule| &rule.action).collect();
    assert_eq!((chains[1].name.as_str(), actions), ("pods", vec![&Action::Drop, &Action::Return]));
}

#[test]
fn conditions_are_read_of_both_families() {
    let of = |layout: Layout, change: &dyn Fn(&mut [u8])| {
        let mut written = Written::new(layout);
        let first = written.add(change, &[], &verdict(-2));
        let policy = written.add(|_| {}, &[], &verdict(-2));
        written.read([first, policy])[HOOKS].rules[0].conditions.clone()
    };
    let device = |name: &str| vec![Condition::Device(name.into())];
    assert_eq!(of(V4, &|_| {}), []);
    let cni = |entry: &mut [u8]| {
        entry[32..36].copy_from_slice(b"cni0");
        entry[64..69].copy_from_slice(&[255; 5]);
    };
    assert_eq!(of(V4, &cni), device("cni0"));
    let any_cni = |entry: &mut [u8]| {
        entry[80..83].copy_from_slice(b"cni");
        entry[112..115].copy_from_slice(&[255; 3]);
    };
    assert_eq!(of(V6, &any_cni), device("cni*"));
    let pods = |entry: &mut [u8]| {
        entry[16..18].copy_from_slice(&[0xfd, 0x44]);
        entry[48..50].copy_from_slice(&[255; 2]);
    };
    assert_eq!(of(V6, &pods), [Condition::Destination("fd44::/16".parse().unwrap())]);
    for (layout, at) in
        [(V4, 8), (V4, 48), (V4, 80), (V4, 82), (V4, 83), (V6, 32), (V6, 128), (V6, 132)]
    {
        assert_eq!(of(layout, &|entry| entry[at] = 1), [Condition::Other], "byte {at}");
    }
    // `IP6T_F_PROTO` and `IP6T_F_GOTO` ask for nothing by themselves.
    assert_eq!(of(V6, &|entry| entry[131] = 5), []);
}

#[test]
fn a_table_that_sees_nothing_forwarded_has_no_chain_and_one_cut_short_is_read_as_far_as_it_goes() {
    let held = IptablesTable { rules: Vec::new(), forward: None };
    assert!(chains(Family::V4, "nat", &held).is_empty());
    let mut written = Written::new(V4);
    written.add(to_pods, &["comment"], &verdict(-2));
    for length in 0..written.rules.len() {
        assert!(entries(Family::V4, &written.rules[..length]).is_empty(), "{length}");
    }
}
