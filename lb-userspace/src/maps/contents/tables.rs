//! Contents as the maps of a walk, so that packets can be walked through them.

use lb_common::backend::{Backend, BackendId};
use lb_common::filter::Position;
use lb_common::service::{Frontend, FrontendRow, IpPolicy};
use lb_common::settings::Settings;
use lb_common::source_range::SourceRange;
use lb_ebpf::world::Tables;

use super::family::InContents;
use super::values::Contents;

impl<A: InContents> Tables<A> for Contents {
    fn frontend(&self, frontend: &Frontend<A>) -> Option<FrontendRow> {
        A::rows(self).frontends.get(frontend).copied()
    }

    fn ip_policy(&self, address: &A) -> Option<IpPolicy> {
        A::rows(self).ip_policies.get(address).copied()
    }

    fn in_service_ranges(&self, address: &A) -> bool {
        A::of_services(&self.settings).holds(address)
    }

    fn source_allowed(&self, source: &SourceRange<A>) -> bool {
        A::rows(self).source_ranges.keys().any(|range| range.holds(source))
    }

    fn slot(&self, index: u32) -> Option<BackendId> {
        let (base, slots) = self.slots.range(..=index).next_back()?;
        // Contents that packets are walked through are read from maps, or planned anew: nothing is forgotten there.
        slots.ids()?.get((index - base) as usize).copied()
    }

    fn backend(&self, id: BackendId) -> Option<Backend<A>> {
        A::rows(self).backends.get(&id).copied()
    }

    fn filter_matches(&self, position: Position) -> bool {
        let bits = self.filter.get(&position.word);
        bits.is_some_and(|bits| position.is_in(*bits))
    }

    fn settings(&self) -> Settings {
        self.settings
    }
}
