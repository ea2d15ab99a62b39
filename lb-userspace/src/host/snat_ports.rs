//! The source ports of translated flows, in tiers. The kernel tells flows apart by all of their tuple, and
//! the datapath looks for a local socket before it takes a port, so any port will do; the tiers make it
//! rare that a socket of this node gets, later on, a port that a flow to the same backend has.

use std::fmt::Display;
use std::fs;
use std::ops::{Range, RangeInclusive};
use std::sync::Once;

use lb_common::snat::{Rows, SPAN, TIERS};
use tracing::warn;

/// The spans of ports; the one before holds the ports of well-known servers.
const SPANS: Range<u32> = 1..64;

/// Kubernetes' default `--service-node-port-range`.
const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// The kernel's default `net.ipv4.ip_local_port_range`; it goes for both families.
const LOCAL_PORTS: RangeInclusive<u16> = 32_768..=60_999;

const LOCAL_PORTS_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED_PORTS_FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Fewer ports than this would not be enough; then node ports are taken too.
const ENOUGH: u32 = 16_384;

/// The ports that matter to the choice, as this node's kernel has them now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalPorts {
    /// `net.ipv4.ip_local_port_range`: the kernel gives these to sockets.
    assigned: RangeInclusive<u16>,
    /// `net.ipv4.ip_local_reserved_ports`: kept for servers.
    reserved: Vec<RangeInclusive<u16>>,
}

impl LocalPorts {
    /// Reads the settings; where one cannot be read, which is logged once, the kernel's default counts.
    #[must_use]
    pub fn of_this_node() -> Self {
        static ASSIGNED: Once = Once::new();
        static RESERVED: Once = Once::new();
        Self {
            assigned: read(LOCAL_PORTS_FILE, parse_range, &ASSIGNED).unwrap_or(LOCAL_PORTS),
            // The kernel reserves none by default.
            reserved: read(RESERVED_PORTS_FILE, parse_list, &RESERVED).unwrap_or_default(),
        }
    }

    /// The tiers for a cluster in which `used` are node ports: first the ports that the kernel gives to no
    /// socket; then, of all ports, those that connect(2) tries last; then all. None near a node port is
    /// among them, unless too few are left.
    #[must_use]
    pub fn tiers(&self, used: impl Iterator<Item = u16>) -> [Rows; TIERS] {
        let node_ports = used
            .fold(NODE_PORTS, |range, port| *range.start().min(&port)..=*range.end().max(&port));
        let beside = spans_without(&[node_ports]);
        let all = if beside.ports() < ENOUGH { spans_without(&[]) } else { beside };
        let mut taken = self.reserved.clone();
        taken.push(self.assigned.clone());
        let taken = Rows::of_spans(0, 63).without(spans_without(&taken));
        // `__inet_hash_connect` looks through every other port of the range, from its first one on, and
        // through the rest only when these are in use.
        let rarely = if self.assigned.start().is_multiple_of(2) {
            Rows { even: 0, ..all }
        } else {
            Rows { odd: 0, ..all }
        };
        [all.without(taken), rarely, all]
    }
}

/// What `parse` makes of `file`; if nothing, that is logged, but not again.
fn read<T>(file: &str, parse: impl Fn(&str) -> Option<T>, logged: &Once) -> Option<T> {
    let warn = |reason: &dyn Display| {
        logged.call_once(|| {
            warn!("{file}: {reason}: SNAT ports are chosen as if it had the kernel's default");
        });
    };
    match fs::read_to_string(file) {
        Ok(text) => {
            let value = parse(&text);
            if value.is_none() {
                warn(&format_args!("not understood: {:?}", text.trim()));
            }
            value
        }
        Err(error) => {
            warn(&error);
            None
        }
    }
}

/// All spans without a port of these ranges.
fn spans_without(ranges: &[RangeInclusive<u16>]) -> Rows {
    let is_free = |span: &u32| {
        let (first, last) = (span * SPAN, span * SPAN + SPAN - 1);
        let meets = |range: &RangeInclusive<u16>| {
            u32::from(*range.start()) <= last && u32::from(*range.end()) >= first
        };
        !ranges.iter().any(meets)
    };
    SPANS.filter(is_free).fold(Rows::default(), |rows, span| rows.with(Rows::of_spans(span, span)))
}

/// Two numbers with white space between.
fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.trim().split_once(char::is_whitespace)?;
    Some(first.parse().ok()?..=last.trim().parse().ok()?)
}

/// Numbers and ranges, such as `8080,9000-9010`; none of an empty text.
fn parse_list(text: &str) -> Option<Vec<RangeInclusive<u16>>> {
    let parts = text.trim().split(',').filter(|part| !part.is_empty());
    let ranges = parts.map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(assigned: RangeInclusive<u16>, used: &[u16], expected: [u32; TIERS]) {
        let ports = LocalPorts { assigned, reserved: Vec::new() };
        let tiers = ports.tiers(used.iter().copied());
        assert_eq!(tiers.map(|tier| tier.ports()), expected);
    }

    #[test]
    fn ports_that_no_socket_gets_come_first() {
        check(LOCAL_PORTS, &[], [32_768, 30_720, 61_440]);
        check(10_000..=20_000, &[], [50_176, 30_720, 61_440]);
    }

    #[test]
    fn there_are_ports_whatever_the_kernel_gives_to_sockets() {
        check(1024..=65_535, &[], [0, 30_720, 61_440]);
        check(1024..=64_511, &[], [1024, 30_720, 61_440]);
    }

    #[test]
    fn ports_near_node_ports_are_left_out_while_there_are_enough() {
        check(LOCAL_PORTS, &[31_000], [32_768, 30_720, 61_440]);
        check(LOCAL_PORTS, &[20_000, 22_000], [22_528, 25_600, 51_200]);
        check(LOCAL_PORTS, &[1500, 60_000], [35_840, 32_256, 64_512]);
    }

    #[test]
    fn reserved_ports_are_not_among_the_first() {
        let reserved = parse_list("8080,9000-9010\n").unwrap();
        assert_eq!(reserved, [8080..=8080, 9000..=9010]);
        let [first, ..] = LocalPorts { assigned: LOCAL_PORTS, reserved }.tiers([].into_iter());
        assert_eq!(first.ports(), 32_768 - 2 * 1024);
    }

    #[test]
    fn of_ports_that_connect_gives_the_others_come_first() {
        let tiers = |first| {
            let assigned = first..=60_999;
            LocalPorts { assigned, reserved: Vec::new() }.tiers([].into_iter())
        };
        assert_eq!(tiers(32_768)[1].even, 0);
        assert_eq!(tiers(32_769)[1].odd, 0);
    }

    #[test]
    fn the_kernels_files_are_read_as_it_writes_them() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(parse_range("x"), None);
        assert_eq!(parse_list("\n"), Some(Vec::new()));
        assert_eq!(parse_list("8080,x,9000-9010"), None, "not half of it");
        assert_eq!(parse_list("8080-"), None);
    }
}
