//! What a plan leaves out, with the warnings that say so.

use lb_common::maps::{self, Map};

use super::settings::Settings;
use crate::maps::{Contents, size_flag};
use crate::model::{Cluster, LocalNode, Warning};

/// The arguments of [`plan`](super::plan).
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) local_node: &'a LocalNode,
    pub(super) settings: &'a Settings,
    pub(super) before: &'a Contents,
}

/// What a plan leaves out.
#[derive(Default)]
pub(super) struct Omissions {
    /// What is left out, and why.
    pub(super) warnings: Vec<Warning>,
    /// Something is left out because a map is full.
    pub(super) is_map_full: bool,
}

impl Omissions {
    /// Adds that `map` cannot hold the `needed` entries.
    pub(super) fn add_full_map(&mut self, context: &Context<'_>, map: &Map, needed: u64) {
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
        self.is_map_full = true;
        self.warnings.push(Warning {
            about: format!("Node {}", context.local_node.name),
            text: format!("{} has room for {capacity} entries of {needed}: {next}", map.name),
        });
    }
}
