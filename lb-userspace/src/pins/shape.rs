//! What a map looks like: the part of it that two builds of weir have to agree on.

use std::fmt;

use aya::maps::{MapInfo, MapType};
use lb_common::maps::{self, Capacities, Capacity, Kind};

/// What a map looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Its kind, `None` if it is one that Weir does not use.
    pub kind: Option<Kind>,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Its capacity.
    pub entries: u32,
}

impl Shape {
    pub(super) fn wanted(map: &maps::Map, capacities: &Capacities) -> Self {
        Self {
            kind: Some(map.kind),
            key_size: map.key_size,
            value_size: map.value_size,
            entries: capacities.entries(map),
        }
    }

    pub(super) fn of(info: &MapInfo) -> Self {
        Self {
            kind: info.map_type().ok().and_then(|of| kind(of, info.map_flags())),
            key_size: info.key_size(),
            value_size: info.value_size(),
            entries: info.max_entries(),
        }
    }

    /// What is done about a pinned map of this shape where another is wanted.
    pub(super) fn next_step(&self, wanted: &Self, capacity: Capacity) -> &'static str {
        let same_layout = Self { entries: wanted.entries, ..*self } == *wanted;
        // No flag sets a fixed capacity: it is a build's own.
        if same_layout && !matches!(capacity, Capacity::Fixed(_)) {
            "keep the size it has (leave the flags that set map sizes as they were), or run \
             `weir detach`, which ends translated connections, and then `weir run` again"
        } else {
            "it was made by another build of weir: run `weir detach`, which ends translated \
             connections, and then `weir run` again"
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Some(Kind::Hash) => "a hash",
            Some(Kind::LruHash) => "a least-recently-used hash",
            Some(Kind::LpmTrie) => "a longest-prefix-match trie",
            Some(Kind::Array) => "an array",
            Some(Kind::MappedArray) => "an array that can be mapped",
            Some(Kind::PerCpuArray) => "a per-CPU array",
            Some(Kind::SocketStorage) => "kept with sockets",
            Some(Kind::ProgramArray) => "an array of programs",
            None => "of an unknown kind",
        };
        write!(
            f,
            "{kind} of {} entries, key {} bytes, value {} bytes",
            self.entries, self.key_size, self.value_size
        )
    }
}

/// `BPF_F_MMAPABLE` (include/uapi/linux/bpf.h).
const MAPPABLE: u32 = 1 << 10;

fn kind(map_type: MapType, flags: u32) -> Option<Kind> {
    if map_type == MapType::Array && flags & MAPPABLE != 0 {
        return Some(Kind::MappedArray);
    }
    [
        (MapType::Hash, Kind::Hash),
        (MapType::LruHash, Kind::LruHash),
        (MapType::LpmTrie, Kind::LpmTrie),
        (MapType::Array, Kind::Array),
        (MapType::PerCpuArray, Kind::PerCpuArray),
        (MapType::SkStorage, Kind::SocketStorage),
        (MapType::ProgramArray, Kind::ProgramArray),
    ]
    .into_iter()
    .find_map(|(theirs, ours)| (theirs == map_type).then_some(ours))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::layout::Layout;

    #[test]
    fn an_array_that_cannot_be_mapped_is_of_another_build_by_its_shape_and_its_layout() {
        assert_eq!(kind(MapType::Array, 0), Some(Kind::Array));
        assert_eq!(kind(MapType::Array, MAPPABLE), Some(Kind::MappedArray));
        // Without this in the text, an upgrade would open the maps of the release before and fail to map them.
        let text = Layout::own_text();
        for map in maps::pinned().filter(|map| map.kind == Kind::MappedArray) {
            let line = format!("map {} ", map.name);
            let line = text.lines().find(|one| one.starts_with(&line)).unwrap();
            assert!(line.contains(" MappedArray "), "{line}");
        }
        assert_eq!(maps::pinned().filter(|map| map.kind == Kind::MappedArray).count(), 6);
    }

    #[test]
    fn a_map_of_another_size_and_one_of_another_layout_get_different_advice() {
        let wanted = Shape { kind: Some(Kind::Hash), key_size: 8, value_size: 28, entries: 100 };
        let smaller = Shape { entries: 50, ..wanted };
        let other = Shape { value_size: 24, ..smaller };
        let by_flag = Capacity::Frontends;
        assert!(smaller.next_step(&wanted, by_flag).starts_with("keep the size"));
        assert!(other.next_step(&wanted, by_flag).contains("another build"));
        assert!(smaller.next_step(&wanted, Capacity::Fixed(100)).contains("another build"));
    }
}
