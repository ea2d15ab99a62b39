//! The maps: how full they are, and how much memory they take.

use std::collections::BTreeMap;

use comfy_table::Table;
use lb_common::maps::{self, Kind};
use lb_common::outcome::Outcome;
use lb_common::snat::{GROUPS, HINT_ROWS};
use serde::Serialize;

use super::snapshot::{Flows, Snapshot};
use crate::cli::output::{Report, table};
use crate::maps::{Contents, size_flag};
use crate::pins::Pins;

/// Every pinned map, in the order of the catalogue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct Maps {
    maps: Vec<Map>,
    /// What they hold, as text.
    #[serde(skip)]
    contents: String,
}

/// A map.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Map {
    name: &'static str,
    /// `hash`, `lru-hash`, `array` or `per-cpu-array`
    kind: &'static str,
    /// Entries in use; of an array, those that mean something.
    entries: u64,
    /// Entries it can hold.
    capacity: u32,
    /// Bytes of the kernel's memory it takes, if /proc has them.
    memory: Option<u64>,
    /// The flag of `weir run` that sets its capacity, if one does.
    flag: Option<&'static str>,
}

/// The size of a map.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MapSize {
    /// Entries it can hold.
    pub capacity: u32,
    /// Bytes.
    pub memory: Option<u64>,
}

/// The size of each map by its name.
///
/// # Errors
///
/// A map could not be read.
pub fn sizes(pins: &Pins) -> anyhow::Result<BTreeMap<&'static str, MapSize>> {
    let mut sizes = BTreeMap::new();
    for map in maps::ALL {
        if let Some(shape) = pins.shape(map)? {
            sizes.insert(
                map.name,
                MapSize { capacity: map.capacity.usable(shape.entries), memory: pins.memory(map) },
            );
        }
    }
    Ok(sizes)
}

impl Maps {
    /// Those of `sizes`.
    pub fn of(snapshot: &Snapshot, sizes: &BTreeMap<&'static str, MapSize>) -> Self {
        let there = maps::ALL.iter().filter_map(|map| Some((map, sizes.get(map.name)?)));
        let maps = there
            .map(|(map, size)| Map {
                name: map.name,
                kind: match map.kind {
                    Kind::Hash => "hash",
                    Kind::LruHash => "lru-hash",
                    Kind::LpmTrie => "lpm-trie",
                    Kind::Array | Kind::MappedArray => "array",
                    Kind::PerCpuArray => "per-cpu-array",
                    Kind::SocketStorage => "sk-storage",
                    Kind::ProgramArray => "prog-array",
                },
                entries: entries(map, &snapshot.contents, &snapshot.flows),
                capacity: size.capacity,
                memory: size.memory,
                flag: size_flag(map.capacity),
            })
            .collect();
        Self { maps, contents: snapshot.contents.to_string() }
    }
}

/// How many entries of `map` are in use. Every map has to be among these: a test sees to it.
fn entries(map: &maps::Map, contents: &Contents, flows: &Flows) -> u64 {
    let count = match map.name {
        "SERVICES" => contents.services.len(),
        "SLOTS" => contents.slots.values().map(|slots| slots.len() as usize).sum(),
        "TRAFFIC_V4" => contents.v4.backends.len(),
        "TRAFFIC_V6" => contents.v6.backends.len(),
        "FILTER" => contents.filter.len(),
        "DEVICES" => contents.devices.len(),
        "SETTINGS" => 1,
        // Every row has a meaning at any time.
        "PORT_HINTS" => HINT_ROWS as usize,
        "FULL_ROWS" => GROUPS as usize,
        "OUTCOMES" => Outcome::ALL.len(),
        name => {
            let mut lengths = contents.v4.lengths().chain(contents.v6.lengths());
            match lengths.find(|(of_family, _)| of_family.name == name) {
                Some((_, length)) => length,
                None => return flows.entries.get(name).copied().unwrap_or_default(),
            }
        }
    };
    count as u64
}

impl Report for Maps {
    fn table(&self, wide: bool) -> Table {
        let mut header = vec!["MAP", "ENTRIES", "CAPACITY", "KIB"];
        if wide {
            header.extend(["KIND", "SET BY"]);
        }
        let row = |map: &Map| {
            let kibibytes = map.memory.map(|bytes| (bytes / 1024).to_string());
            let mut row = vec![
                map.name.to_owned(),
                map.entries.to_string(),
                map.capacity.to_string(),
                kibibytes.unwrap_or_default(),
            ];
            if wide {
                row.extend([map.kind.to_owned(), map.flag.unwrap_or_default().to_owned()]);
            }
            row
        };
        table(&header, self.maps.iter().map(row))
    }

    /// The one text form of what they hold, which bug reports should carry.
    fn notes(&self, wide: bool) -> Vec<String> {
        let lines = self.contents.lines().map(str::to_owned);
        if wide { std::iter::once(String::new()).chain(lines).collect() } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{json, trimmed};

    fn sample() -> Maps {
        let size = MapSize { capacity: 1000, memory: Some(81_920) };
        let sizes = maps::ALL.iter().map(|map| (map.name, size)).collect();
        Maps::of(&Snapshot::sample(), &sizes)
    }

    #[test]
    fn maps_are_listed_with_how_full_they_are_and_what_they_hold() {
        let maps = sample();
        let notes = maps.notes(true).join("\n");
        insta::assert_snapshot!(format!("{}{notes}", trimmed(&maps.table(true))));
        assert!(maps.notes(false).is_empty());
    }

    #[test]
    fn the_fields_of_a_map_are_these() {
        insta::assert_snapshot!(json(&sample().maps[0]).unwrap());
    }

    #[test]
    fn every_map_s_entries_are_counted() {
        let tables = ["CONNTRACK", "HALF_OPEN", "AFFINITY", "FRAGMENTS"];
        let of_the_walk = |map: &&maps::Map| tables.iter().any(|name| map.name.starts_with(name));
        let counted = maps::ALL.iter().filter(of_the_walk).map(|map| (map.name, 1));
        let flows = Flows { entries: counted.collect(), ..Flows::default() };
        for map in maps::ALL {
            assert!(entries(map, &crate::cli::sample::contents(), &flows) > 0, "{}", map.name);
        }
    }
}
