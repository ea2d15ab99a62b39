//! The agent comes to what a plan says, whatever fails on the way.

use lb_userspace::agent::{Agent, Effect, Event};
use lb_userspace::maps::in_memory::FaultyStore;
use lb_userspace::maps::{BackendSet, Contents, MapStore, Operation, diff};
use lb_userspace::model::{Change, Cluster};
use lb_userspace::plan::plan;
use proptest::prelude::*;

use crate::clusters::{HERE, cluster, here, settings};

/// Lets the agent do all it wants to, every tick coming at once.
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

/// Sweeps connection tables that are empty.
fn sweep(agent: &mut Agent, store: &mut FaultyStore) {
    run(agent, store, Event::GcStarted);
    run(agent, store, Event::GcFinished(BackendSet::default()));
}

/// What leads from one cluster to another.
fn changes(from: &Cluster, to: &Cluster) -> Vec<Change> {
    let mut changes = Vec::new();
    let gone = from.services.keys().filter(|name| !to.services.contains_key(name));
    changes.extend(gone.cloned().map(Change::ServiceGone));
    let gone = from.slices.keys().filter(|name| !to.slices.contains_key(name));
    changes.extend(gone.cloned().map(Change::SliceGone));
    let gone = from.service_cidrs.keys().filter(|name| !to.service_cidrs.contains_key(*name));
    changes.extend(gone.cloned().map(Change::ServiceCidrGone));
    let cidrs = to.service_cidrs.clone().into_iter();
    changes.extend(cidrs.map(|(name, ranges)| Change::ServiceCidr(name, ranges)));
    changes.extend(to.services.values().cloned().map(Change::Service));
    changes.extend(to.slices.values().cloned().map(Change::Slice));
    changes.extend(to.nodes.values().cloned().map(Change::Node));
    changes
}

proptest! {
    #[test]
    fn an_agent_whose_writes_fail_gets_there_all_the_same(
        clusters in prop::collection::vec(cluster(), 1..4), seed: u64,
    ) {
        let mut store = FaultyStore::new(seed);
        let mut agent = Agent::new(HERE, settings(), Contents::default());
        prop_assert_eq!(run(&mut agent, &mut store, Event::Devices(here().devices)), vec![]);
        let mut known = Cluster::default();
        let mut effects = Vec::new();
        for cluster in clusters {
            for change in changes(&known, &cluster) {
                effects.extend(run(&mut agent, &mut store, Event::Cluster(change)));
            }
            effects.extend(run(&mut agent, &mut store, Event::Cluster(Change::Synced)));
            known = cluster;
            sweep(&mut agent, &mut store);
        }
        prop_assert_eq!(effects.iter().filter(|effect| **effect == Effect::Ready).count(), 1);
        let contents = store.read().unwrap();
        prop_assert_eq!(agent.contents(), &contents);
        let wanted = plan(&known, &here(), &settings(), &contents, &BackendSet::default());
        prop_assert_eq!(diff(&contents, &wanted.contents), Vec::<Operation>::new());
        prop_assert_eq!(agent.warnings().cloned().collect::<Vec<_>>(), wanted.warnings);
        // A write that fails costs a sweep.
        (0..20).for_each(|_| sweep(&mut agent, &mut store));
        prop_assert!(agent.contents().retired().is_empty(), "what nothing refers to stays");
    }
}
