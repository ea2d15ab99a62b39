//! The ports that translated flows may take as their source: none that a socket of this node may be
//! given, and none of the node-port range.

use std::fs;
use std::ops::RangeInclusive;

use crate::model::SourcePorts;

/// Below are the ports of well-known servers.
const FIRST: u16 = 1024;

/// Kubernetes' default `--service-node-port-range`.
pub const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// The kernel's default `net.ipv4.ip_local_port_range`; it goes for both families.
const LOCAL_PORTS: RangeInclusive<u16> = 32_768..=60_999;

const LOCAL_PORTS_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The source ports of this node: the largest range that is free of both.
#[must_use]
pub fn of_this_node() -> SourcePorts {
    let local = fs::read_to_string(LOCAL_PORTS_FILE)
        .ok()
        .and_then(|text| parse(&text))
        .unwrap_or(LOCAL_PORTS);
    free_range(&local, &NODE_PORTS)
}

fn parse(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.trim().split_once(char::is_whitespace)?;
    Some(first.parse().ok()?..=last.trim().parse().ok()?)
}

/// The largest range of ports outside both; empty if they leave none.
fn free_range(one: &RangeInclusive<u16>, other: &RangeInclusive<u16>) -> SourcePorts {
    let mut taken = [one, other];
    taken.sort_by_key(|range| *range.start());
    let mut best = SourcePorts::default();
    let mut first = u32::from(FIRST);
    let past_the_end = u32::from(u16::MAX) + 1;
    for (start, next) in taken
        .map(|range| (u32::from(*range.start()), u32::from(*range.end()) + 1))
        .into_iter()
        .chain([(past_the_end, past_the_end)])
    {
        let ports = start.saturating_sub(first);
        if ports > u32::from(best.count) {
            best = SourcePorts {
                first: u16::try_from(first).unwrap_or_default(),
                count: u16::try_from(ports).unwrap_or(u16::MAX),
            };
        }
        first = first.max(next);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(local: RangeInclusive<u16>, expected: RangeInclusive<u16>) {
        let found = free_range(&local, &NODE_PORTS);
        assert_eq!(found.first, *expected.start());
        assert_eq!(usize::from(found.count), expected.count());
    }

    #[test]
    fn the_largest_gap_beside_both_ranges_is_taken() {
        check(LOCAL_PORTS, 1024..=29_999);
        check(1024..=40_000, 40_001..=65_535);
        check(10_000..=20_000, 32_768..=65_535);
        check(20_000..=31_000, 32_768..=65_535);
        check(40_000..=65_535, 1024..=29_999);
    }

    #[test]
    fn if_every_port_is_taken_there_is_none() {
        let none = free_range(&(1..=65_535), &NODE_PORTS);
        assert_eq!(none.count, 0);
    }

    #[test]
    fn the_kernels_file_is_two_numbers_with_white_space_between() {
        assert_eq!(parse("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(parse("x"), None);
    }
}
