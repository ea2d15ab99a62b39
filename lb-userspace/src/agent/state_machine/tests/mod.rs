use std::net::IpAddr;

use lb_common::maps::{self, Capacities};
use lb_common::snat::{Rows, TIERS};

use super::*;
use crate::maps::FilterBits;
use crate::model::{
    Change, DeviceRole, Name, Node, NodeDevice, Service, ServicePort, ServiceType, Sockets,
    TrafficPolicy,
};
use crate::plan::{NodePortAddresses, Skip};

mod planned;

fn agent() -> Agent {
    let room = 1000;
    let capacities = Capacities {
        services: room,
        frontends: room,
        slots: room,
        backends: room,
        conntrack: room,
        half_open: room,
        affinity: room,
        processors: 1,
    };
    let settings = Settings {
        nodeport_addresses: NodePortAddresses::default(),
        skip: Skip::default(),
        capacities,
        honours_external_ips: true,
        snat_tiers: [Rows::default(); TIERS],
        sockets: Sockets::default(),
    };
    Agent::new("node-1", settings, Contents::default())
}

fn service(name: &str) -> Change {
    Change::Service(Service {
        name: Name::new("default", name),
        kind: ServiceType::ClusterIp,
        cluster_ips: vec![IpAddr::from([10, 96, 0, 1])],
        headless: false,
        other_proxy: false,
        ports: vec![ServicePort {
            name: "".into(),
            protocol: lb_common::address::Protocol::TCP,
            port: 80,
            node_port: None,
        }],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: None,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        health_check_port: None,
        affinity: crate::model::Affinity::None,
    })
}

fn devices() -> Event {
    Event::Devices(vec![device(1, DeviceRole::Network, vec![IpAddr::from([192, 0, 2, 1])])])
}

fn device(index: u32, role: DeviceRole, addresses: Vec<IpAddr>) -> NodeDevice {
    NodeDevice {
        index,
        name: format!("device{index}"),
        role: Some(role),
        addresses,
        default_routes: Default::default(),
        xdp_sends: false,
        has_link_header: true,
        link: [0; 6],
    }
}

/// An agent that knows all it needs, with one Service, at its first write.
fn writing() -> (Agent, Arc<[Operation]>) {
    let mut agent = agent();
    agent.on(devices());
    agent.on(Event::Cluster(service("web")));
    agent.on(Event::Cluster(Change::Synced));
    match agent.on(Event::Tick).as_slice() {
        [Effect::Write(operations)] => (agent, Arc::clone(operations)),
        other => panic!("{other:?} instead of a write"),
    }
}

fn all(operations: &[Operation]) -> Event {
    Event::Written { done: operations.len(), result: Ok(()) }
}

fn none() -> Event {
    let refused = std::io::Error::from_raw_os_error(libc::E2BIG);
    let result = Err(MapError::new(&maps::FRONTENDS.v4, "write a row of", refused));
    Event::Written { done: 0, result }
}

#[test]
fn nothing_is_planned_before_everything_was_listed_once_and_devices_are_known() {
    let mut agent = agent();
    assert_eq!(agent.on(Event::Cluster(service("web"))), []);
    assert_eq!(agent.on(Event::Cluster(Change::Synced)), []);
    assert_eq!(agent.on(devices()), [Effect::WakeIn(Duration::ZERO)]);
}

#[test]
fn changes_that_come_together_are_planned_together() {
    let (mut agent, operations) = writing();
    assert_eq!(agent.on(all(&operations)), [Effect::Ready]);
    assert_eq!(agent.on(Event::Cluster(service("a"))), [Effect::WakeIn(Duration::ZERO)]);
    assert_eq!(agent.on(Event::Cluster(service("b"))), []);
    assert_eq!(agent.on(Event::Cluster(Change::ServiceGone(Name::new("default", "a")))), []);
}

#[test]
fn what_changes_nothing_wakes_nobody() {
    let (mut agent, operations) = writing();
    agent.on(all(&operations));
    assert_eq!(agent.on(Event::Cluster(service("web"))), []);
    assert_eq!(agent.on(devices()), []);
    assert_eq!(agent.on(Event::Tick), []);
}

#[test]
fn what_comes_while_a_write_is_under_way_is_planned_after_it() {
    let (mut agent, operations) = writing();
    let node = Node { name: "node-1".into(), addresses: Vec::new(), zone: None, leaving: false };
    assert_eq!(agent.on(Event::Cluster(Change::Node(node))), []);
    assert_eq!(agent.on(Event::Tick), []);
    assert_eq!(agent.on(all(&operations)), [Effect::Ready, Effect::WakeIn(Duration::ZERO)]);
}

#[test]
fn a_write_that_fails_is_tried_again_later_and_later_but_at_last_every_half_minute() {
    let (mut agent, operations) = writing();
    let mut waits = Vec::new();
    for _ in 0..12 {
        let effects = agent.on(none());
        let [Effect::WakeIn(wait)] = effects.as_slice() else { panic!("{effects:?}") };
        waits.push(*wait);
        assert_eq!(agent.on(Event::Cluster(service("web"))), [], "a change does not hurry it");
        assert_eq!(agent.on(Event::Tick), [Effect::Write(Arc::clone(&operations))]);
    }
    assert_eq!(waits[..3], [RETRY, RETRY * 2, RETRY * 4]);
    assert_eq!(waits[11], RETRY_AT_MOST);
}

#[test]
fn what_a_failed_write_did_reach_is_not_written_again() {
    let (mut agent, operations) = writing();
    let Event::Written { result, .. } = none() else { unreachable!("that is what it makes") };
    agent.on(Event::Written { done: 2, result });
    let effects = agent.on(Event::Tick);
    assert_eq!(effects, [Effect::Write(operations[2..].into())]);
}

#[test]
fn ready_is_returned_once() {
    let (mut agent, operations) = writing();
    assert!(!agent.is_ready());
    assert_eq!(agent.on(all(&operations)), [Effect::Ready]);
    assert!(agent.is_ready());
    agent.on(Event::Cluster(Change::ServiceGone(Name::new("default", "web"))));
    let effects = agent.on(Event::Tick);
    let [Effect::Write(operations)] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(agent.on(all(operations)), []);
}

#[test]
fn what_others_wrote_to_the_maps_is_put_right() {
    let (mut agent, operations) = writing();
    agent.on(all(&operations));
    let right = agent.contents().clone();
    let mut wrong = right.clone();
    wrong.v4.frontends.clear();
    assert_eq!(agent.on(Event::Reread(Box::new(right.clone()))), []);
    assert_eq!(agent.on(Event::Reread(Box::new(wrong))), [Effect::WakeIn(Duration::ZERO)]);
    let effects = agent.on(Event::Tick);
    let [Effect::Write(operations)] = effects.as_slice() else { panic!("{effects:?}") };
    agent.on(all(operations));
    assert_eq!(*agent.contents(), right);
}

#[test]
fn a_warning_is_logged_once_for_as_long_as_it_holds() {
    let mut agent = agent();
    let warning = Warning { about: "cluster.yaml:6".into(), text: "cannot be read".into() };
    let event = || Event::Source(vec![warning.clone()]);
    assert_eq!(agent.on(event()), [Effect::Warn(warning.clone())]);
    assert_eq!(agent.on(event()), []);
    assert_eq!(agent.warnings().collect::<Vec<_>>(), [&warning]);
    assert_eq!(agent.on(Event::Source(Vec::new())), []);
    assert_eq!(agent.on(event()), [Effect::Warn(warning.clone())]);
}

/// Lets the agent write until it has nothing to write; returns how many operations that took.
fn settle(agent: &mut Agent) -> usize {
    let mut operations = 0;
    loop {
        let effects = agent.on(Event::Tick);
        let [Effect::Write(writes)] = effects.as_slice() else {
            return operations;
        };
        operations += writes.len();
        agent.on(all(writes));
    }
}

/// An agent whose one Service is gone, and the bits of the filter that stay set.
fn without_its_service() -> (Agent, FilterBits) {
    let (mut agent, operations) = writing();
    agent.on(all(&operations));
    let bits = FilterBits::of_words(&agent.contents().filter);
    assert!(!bits.is_empty());
    agent.on(Event::GcStarted);
    agent.on(Event::Cluster(Change::ServiceGone(Name::new("default", "web"))));
    settle(&mut agent);
    assert!(agent.contents().v4.frontends.is_empty());
    (agent, bits)
}

fn bits_of(agent: &Agent) -> FilterBits {
    FilterBits::of_words(&agent.contents().filter)
}

#[test]
fn bits_of_the_filter_stay_while_a_flow_to_a_removed_frontend_may_live() {
    let (mut agent, bits) = without_its_service();
    let nothing = || Event::GcFinished(References::default());
    assert_eq!(agent.on(nothing()), [], "a collection that began before proves nothing");
    agent.on(Event::GcStarted);
    let flow = References { filter: bits.clone(), ..References::default() };
    assert_eq!(agent.on(Event::GcFinished(flow)), [], "a flow needs them");
    assert_eq!(bits_of(&agent), bits);
    agent.on(Event::GcStarted);
    assert_eq!(agent.on(nothing()), [Effect::WakeIn(Duration::ZERO)]);
    settle(&mut agent);
    assert!(bits_of(&agent).is_empty());
}

#[test]
fn bits_of_a_frontend_that_comes_and_goes_again_during_a_collection_stay() {
    let (mut agent, bits) = without_its_service();
    agent.on(Event::GcStarted);
    agent.on(Event::Cluster(service("web")));
    settle(&mut agent);
    agent.on(Event::Cluster(Change::ServiceGone(Name::new("default", "web"))));
    settle(&mut agent);
    assert_eq!(agent.on(Event::GcFinished(References::default())), []);
    assert_eq!(bits_of(&agent), bits);
}

#[test]
fn an_agent_that_starts_keeps_the_bits_that_are_set_until_it_knows_better() {
    let (agent, bits) = without_its_service();
    let mut new = Agent::new("node-1", agent.planning.settings().clone(), agent.contents().clone());
    new.on(devices());
    new.on(Event::Cluster(Change::Synced));
    assert_eq!(new.on(Event::Tick), [Effect::Ready]);
    assert_eq!(bits_of(&new), bits);
    new.on(Event::GcStarted);
    new.on(Event::GcFinished(References::default()));
    settle(&mut new);
    assert!(bits_of(&new).is_empty());
}
