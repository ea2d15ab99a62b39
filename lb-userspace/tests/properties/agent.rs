//! The agent converges to its plan, whatever writes fail.

use lb_userspace::agent::{Agent, Effect, Event};
use lb_userspace::maps::in_memory::FaultyStore;
use lb_userspace::maps::{Contents, MapStore, Operation, References, diff};
use lb_userspace::model::{Change, Cluster};
use lb_userspace::plan::plan;
use proptest::prelude::*;

use crate::clusters::{NODE, cluster, local_node, settings};

/// Runs the agent until it has nothing to do; every tick comes at once.
fn run(agent: &mut Agent, store: &mut FaultyStore, event: Event) -> Vec<Effect> {
    let mut seen = Vec::new();
    let mut effects = agent.on(event);
    while !effects.is_empty() {
        let effect = effects.remove(0);
        match &effect {
            Effect::Write(operations) => effects.extend(agent.on(write(store, operations))),
            Effect::WakeIn(_) => effects.extend(agent.on(Event::Tick)),
            Effect::Ready | Effect::Warn(_) => {}
        }
        seen.push(effect);
    }
    seen
}

fn write(store: &mut FaultyStore, operations: &[Operation]) -> Event {
    for (done, operation) in operations.iter().enumerate() {
        if let Err(error) = store.apply(operation) {
            return Event::Written { done, result: Err(error) };
        }
    }
    Event::Written { done: operations.len(), result: Ok(()) }
}

/// Garbage collection of empty conntrack tables.
fn collect_garbage(agent: &mut Agent, store: &mut FaultyStore) {
    run(agent, store, Event::GcStarted);
    run(agent, store, Event::GcFinished(References::default()));
}

/// The changes from one cluster to another.
pub fn changes(from: &Cluster, to: &Cluster) -> Vec<Change> {
    let mut changes = Vec::new();
    let gone = from.services.keys().filter(|name| !to.services.contains_key(name));
    changes.extend(gone.cloned().map(Change::ServiceGone));
    let gone = from.slices.keys().filter(|name| !to.slices.contains_key(name));
    changes.extend(gone.cloned().map(Change::SliceGone));
    let gone = from.service_cidrs.keys().filter(|name| !to.service_cidrs.contains_key(*name));
    changes.extend(gone.cloned().map(Change::ServiceCidrGone));
    let cidrs = to.service_cidrs.clone().into_iter();
    changes.extend(cidrs.map(|(name, ranges)| Change::ServiceCidr(name, ranges)));
    changes.extend(to.services.values().map(|one| Change::Service((**one).clone())));
    changes.extend(to.slices.values().map(|one| Change::Slice((**one).clone())));
    changes.extend(to.nodes.values().cloned().map(Change::Node));
    changes
}

proptest! {
    #[test]
    fn an_agent_whose_writes_fail_converges(
        clusters in prop::collection::vec(cluster(), 1..4), seed: u64,
    ) {
        let mut store = FaultyStore::new(seed);
        let mut agent = Agent::new(NODE, settings(), Contents::default());
        prop_assert_eq!(run(&mut agent, &mut store, Event::Devices(local_node().devices)), vec![]);
        let mut cluster_now = Cluster::default();
        let mut effects = Vec::new();
        for cluster in clusters {
            for change in changes(&cluster_now, &cluster) {
                effects.extend(run(&mut agent, &mut store, Event::Cluster(change)));
            }
            effects.extend(run(&mut agent, &mut store, Event::Cluster(Change::Synced)));
            cluster_now = cluster;
            collect_garbage(&mut agent, &mut store);
        }
        prop_assert_eq!(effects.iter().filter(|effect| **effect == Effect::Ready).count(), 1);
        let contents = store.read().unwrap();
        prop_assert_eq!(agent.contents(), &contents);
        let wanted = plan(&cluster_now, &local_node(), &settings(), &contents, &References::default());
        prop_assert_eq!(diff(&contents, &wanted.contents), Vec::<Operation>::new());
        prop_assert_eq!(agent.warnings().cloned().collect::<Vec<_>>(), wanted.warnings);
        // After a failed write the result of a collection is lost.
        (0..20).for_each(|_| collect_garbage(&mut agent, &mut store));
        let kept = agent.contents().kept_for_flows();
        prop_assert!(kept.backends.is_empty(), "retired backends that nothing refers to stay");
        prop_assert!(kept.filter.is_empty(), "bits of the filter that nothing refers to stay");
    }
}
