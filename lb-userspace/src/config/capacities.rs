//! How many entries each map has: what the operator says, else by the node's memory.

use lb_common::maps::{BACKENDS, Capacities, TRAFFIC};

/// Bytes that a flow takes in the connection tables of both families together, rounded up: two entries in
/// each, of 40 and 88 bytes, while 55 % of a table's places are counted on.
const FLOW_BYTES: u64 = 512;

/// Bytes of a slot.
const SLOT_BYTES: u64 = 4;

/// The part of a node's memory that the connection tables may take by default, and the slots and the
/// backends again: a quarter of a percent.
const MEMORY_PART: u64 = 400;

/// Bytes of a backend in both families, with its counters for each of `cpus`.
const fn backend_bytes(cpus: u32) -> u64 {
    let rows = BACKENDS.v4.value_size + BACKENDS.v6.value_size;
    let counters = TRAFFIC.v4.value_size + TRAFFIC.v6.value_size;
    rows as u64 + counters as u64 * cpus as u64
}

/// The sizes that an operator may set; `None` leaves them to the node's memory or the default.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TableSizes {
    /// Flows per family that can be established at once.
    pub conntrack: Option<u32>,
    /// Frontends per family; as many Service ports.
    pub frontends: Option<u32>,
    /// Backends per family.
    pub backends: Option<u32>,
    /// Slots of all pools together.
    pub slots: Option<u32>,
    /// Clients per family remembered for session affinity.
    pub affinity: Option<u32>,
}

impl TableSizes {
    /// The sizes of maps that are `there`, but `wanted` where the operator says so.
    #[must_use]
    pub fn or_keep(self, there: Capacities, wanted: Capacities) -> Capacities {
        let by = |is_said: bool| if is_said { wanted } else { there };
        let frontends = by(self.frontends.is_some());
        let conntrack = by(self.conntrack.is_some());
        Capacities {
            services: frontends.services,
            frontends: frontends.frontends,
            slots: by(self.slots.is_some()).slots,
            backends: by(self.backends.is_some()).backends,
            conntrack: conntrack.conntrack,
            half_open: conntrack.half_open,
            affinity: by(self.affinity.is_some()).affinity,
            processors: wanted.processors,
        }
    }
}

/// The entries of each map on a node with `memory` bytes, for which the kernel keeps `cpus` copies of
/// every counter, where `sizes` does not say otherwise.
///
/// Connections take 0.25 % of the memory, between 32,768 and 1,048,576 flows per family; half-open
/// flows a quarter of that, 32,768 entries at least; 65,536 frontends; 32,768 clients with session
/// affinity. Slots take as much memory again as the connections, between 262,144 and 4,194,304, and so
/// do backends, between 32,768 and 131,072.
#[must_use]
pub fn capacities(sizes: TableSizes, memory: u64, cpus: u32) -> Capacities {
    let flows = sizes.conntrack.unwrap_or_else(|| by_memory(memory, FLOW_BYTES, 1 << 15, 1 << 20));
    let backends = || by_memory(memory, backend_bytes(cpus), 1 << 15, 1 << 17);
    let conntrack = flows.saturating_mul(2);
    let frontends = sizes.frontends.unwrap_or(1 << 16);
    Capacities {
        services: frontends,
        frontends,
        slots: sizes.slots.unwrap_or_else(|| by_memory(memory, SLOT_BYTES, 1 << 18, 1 << 22)),
        backends: sizes.backends.unwrap_or_else(backends),
        conntrack,
        half_open: (conntrack / 4).max(1 << 15),
        affinity: sizes.affinity.unwrap_or(1 << 15),
        processors: cpus,
    }
}

fn by_memory(memory: u64, bytes: u64, least: u32, most: u32) -> u32 {
    u32::try_from(memory / MEMORY_PART / bytes).unwrap_or(most).clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn connections_grow_with_memory_between_their_bounds() {
        let flows = |memory| capacities(TableSizes::default(), memory, 4).conntrack / 2;
        assert_eq!(flows(0), 1 << 15);
        assert_eq!(flows(2 * GIB), 1 << 15);
        assert_eq!(flows(24 * GIB), 125_829);
        assert_eq!(flows(4096 * GIB), 1 << 20);
        assert_eq!(flows(u64::MAX), 1 << 20);
    }

    #[test]
    fn half_open_flows_get_a_quarter_of_the_connections_and_never_too_few() {
        let small = capacities(TableSizes::default(), GIB, 4);
        assert_eq!(small.half_open, 1 << 15);
        let large = capacities(TableSizes::default(), 4096 * GIB, 4);
        assert_eq!(large.half_open, large.conntrack / 4);
    }

    #[test]
    fn backends_grow_with_memory_and_cost_more_the_more_processors_there_are() {
        let backends = |memory, cpus| capacities(TableSizes::default(), memory, cpus).backends;
        assert_eq!(backends(2 * GIB, 2), 1 << 15);
        assert_eq!(backends(24 * GIB, 4), 1 << 17);
        assert_eq!(backends(4096 * GIB, 64), 1 << 17);
        let many = backends(64 * GIB, 64);
        assert!(many < 1 << 17 && u64::from(many) * backend_bytes(64) <= 64 * GIB / MEMORY_PART);
    }

    #[test]
    fn what_the_operator_says_is_taken_as_said() {
        let sizes = TableSizes {
            conntrack: Some(1000),
            frontends: Some(2000),
            backends: Some(3000),
            slots: Some(4000),
            affinity: Some(5000),
        };
        assert_eq!(
            capacities(sizes, 24 * GIB, 4),
            Capacities {
                services: 2000,
                frontends: 2000,
                slots: 4000,
                backends: 3000,
                conntrack: 2000,
                half_open: 1 << 15,
                affinity: 5000,
                processors: 4,
            }
        );
    }

    #[test]
    fn without_a_flag_maps_keep_their_sizes_whatever_the_node_has_now() {
        let there = capacities(TableSizes::default(), 64 * GIB, 64);
        let sizes = TableSizes { conntrack: Some(200_000), ..TableSizes::default() };
        let kept = sizes.or_keep(there, capacities(sizes, 8 * GIB, 2));
        let expected =
            Capacities { conntrack: 400_000, half_open: 100_000, processors: 2, ..there };
        assert_eq!(kept, expected);
        let none = TableSizes::default();
        assert_eq!(none.or_keep(there, capacities(none, GIB, 64)), there);
    }
}
