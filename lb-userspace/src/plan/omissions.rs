//! What a plan leaves out, with the warnings that say so.

use lb_common::maps::{self, Map};

use super::index::{ClusterIndex, ContentsIndex};
use super::settings::Settings;
use crate::maps::{Contents, size_flag};
use crate::model::{Cluster, LocalNode, Warning};

/// What a plan is made from.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) index: &'a ClusterIndex,
    pub(super) local_node: &'a LocalNode,
    pub(super) settings: &'a Settings,
    /// What the maps hold of the Services that are planned.
    pub(super) before: &'a Contents,
    /// All that the maps hold.
    pub(super) contents: &'a Contents,
    pub(super) contents_index: &'a ContentsIndex,
}

impl Context<'_> {
    /// How many entries `map`, which holds so many, has room for. Stale ones are removed after new ones are written.
    pub(super) fn room(&self, map: &Map, entries: usize) -> usize {
        (self.settings.capacities.entries(map) as usize).saturating_sub(entries)
    }
}

/// What a plan leaves out.
#[derive(Default)]
pub(super) struct Omissions {
    /// What is left out, and why.
    pub(super) warnings: Vec<Warning>,
    /// Something is left out because a map is full.
    pub(super) is_left_out: bool,
}

impl Omissions {
    /// Adds that `map` cannot hold the `needed` entries, so that some are left out.
    pub(super) fn add_full_map(&mut self, context: &Context<'_>, map: &Map, needed: u64) {
        self.is_left_out = true;
        self.warn_of_size(context, map, needed);
    }

    /// Adds that `map` cannot hold the `needed` entries, so that there are fewer.
    pub(super) fn warn_of_size(&mut self, context: &Context<'_>, map: &Map, needed: u64) {
        let capacity = context.settings.capacities.entries(map);
        let next = match size_flag(map.capacity) {
            Some(flag) => format!("restart weir with {flag} {needed} or more"),
            None if [&maps::SRC_RANGES.v4, &maps::SRC_RANGES.v6].contains(&map) => {
                "its size is fixed, so have fewer loadBalancerSourceRanges, which count once per port \
                 of a Service"
                    .to_owned()
            }
            None => "its size is fixed, so have fewer of them on this node".to_owned(),
        };
        self.warnings.push(Warning {
            about: format!("Node {}", context.local_node.name),
            text: format!("{} has room for {capacity} entries of {needed}: {next}", map.name),
        });
    }
}
