//! What memory the maps take on a node.

use lb_common::maps::Capacities;

use super::finding::Finding;

/// What the finding is about.
const ABOUT: &str = "memory";

/// The part of a node's memory of which more had better not be taken: a tenth.
const PART: u64 = 10;

/// The fewest backends that are advised.
const FEWEST_BACKENDS: u32 = 1024;

/// A node's memory, and the maps that it would get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// The node's memory in bytes.
    pub node: u64,
    /// How many entries the maps have.
    pub maps: Capacities,
}

impl Memory {
    /// Whether the node has enough of it.
    #[must_use]
    pub fn judge(&self) -> Finding {
        let maps = self.maps.memory();
        let found = format!(
            "maps take {} of {}, {} of it for counters and caches of {} possible processors",
            mebibytes(maps.total),
            mebibytes(self.node),
            mebibytes(maps.per_cpu),
            self.maps.processors
        );
        if self.fits(&self.maps) {
            return Finding::ok(ABOUT, found);
        }
        Finding::warn(ABOUT, found, self.advice())
    }

    fn fits(&self, maps: &Capacities) -> bool {
        maps.memory().total <= self.node / PART
    }

    /// The table of backends has counters for each processor; other tables are smaller.
    fn advice(&self) -> String {
        let others = "--conntrack-table-size, --frontend-table-size, --slot-table-size and \
                      --affinity-table-size";
        let with = |backends| Capacities { backends, ..self.maps };
        let mut backends = self.maps.backends.next_power_of_two() / 2;
        while backends > FEWEST_BACKENDS && !self.fits(&with(backends)) {
            backends /= 2;
        }
        if backends < FEWEST_BACKENDS {
            return format!("make tables smaller by {others}");
        }
        let total = mebibytes(with(backends).memory().total);
        format!("`weir run --backend-table-size {backends}` makes that {total}; others: {others}")
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TableSizes, capacities};
    use crate::preflight::finding::Level;

    fn judge(node: u64, processors: u32, sizes: TableSizes) -> Finding {
        Memory { node, maps: capacities(sizes, node, processors) }.judge()
    }

    #[test]
    fn many_processors_and_little_memory_are_warned_of() {
        let finding = judge(4 << 30, 128, TableSizes::default());
        assert_eq!(finding.level, Level::Warn, "{finding:?}");
        let expected =
            "maps take 618 MiB of 4096 MiB, 389 MiB of it for counters and caches of 128 possible";
        assert!(finding.found.starts_with(expected), "{finding:?}");
        let advice = finding.advice.unwrap();
        assert!(advice.contains("--backend-table-size 8192` makes that"), "{advice}");
    }

    #[test]
    fn other_nodes_have_enough() {
        for (node, processors) in [(4 << 30, 2), (16 << 30, 16), (256 << 30, 128)] {
            let finding = judge(node, processors, TableSizes::default());
            assert_eq!((finding.level, &finding.advice), (Level::Ok, &None), "{finding:?}");
        }
    }

    #[test]
    fn what_is_advised_is_not_advised_again() {
        let sizes = TableSizes { backends: Some(1024), ..TableSizes::default() };
        let finding = judge(1 << 30, 512, sizes);
        let advice = finding.advice.unwrap();
        assert!(!advice.contains("--backend-table-size"), "{advice}");
    }
}
