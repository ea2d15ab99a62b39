//! What is planned, and what is said about it.

use lb_common::address::{Family, Protocol};

use super::*;
use crate::model::{Endpoint, EndpointPort, EndpointSlice};

#[test]
fn a_warning_about_the_node_is_new_once() {
    let mut agent = agent();
    agent.on(Event::Devices(vec![device(1, DeviceRole::Network, Vec::new())]));
    let with_node_port = |name: &str, ip: u8| {
        let mut change = service(name);
        if let Change::Service(service) = &mut change {
            service.cluster_ips = vec![IpAddr::from([10, 96, 0, ip])];
            service.ports[0].node_port = Some(30_000 + u16::from(ip));
        }
        Event::Cluster(change)
    };
    agent.on(with_node_port("a", 1));
    agent.on(Event::Cluster(Change::Synced));
    let effects = agent.on(Event::Tick);
    let [Effect::Warn(warning), Effect::Write(operations)] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert!(warning.text.contains("node ports are not served"), "{warning}");
    agent.on(all(operations));
    agent.on(with_node_port("b", 2));
    let effects = agent.on(Event::Tick);
    assert!(matches!(effects.as_slice(), [Effect::Write(_)]), "{effects:?}");
    assert_eq!(agent.warnings().count(), 1);
}

#[test]
fn what_is_planned_follows_from_what_changed() {
    let (mut agent, operations) = writing();
    agent.on(all(&operations));
    let of_everything = agent.effort().of_everything;
    // A device of a pod, and ports that sockets get, are a row each.
    let network = || device(1, DeviceRole::Network, vec![IpAddr::from([192, 0, 2, 1])]);
    agent.on(Event::Devices(vec![network(), device(2, DeviceRole::Pod, Vec::new())]));
    assert_eq!(settle(&mut agent), 1);
    assert_eq!(agent.contents().devices.len(), 2);
    agent.on(Event::SnatPorts([Rows::of_spans(1, 2); TIERS]));
    assert_eq!(settle(&mut agent), 1);
    agent.on(Event::RoutesBySource(true));
    assert_eq!(settle(&mut agent), 1);
    agent.on(Event::Devices(vec![network()]));
    assert_eq!(settle(&mut agent), 1);
    agent.on(Event::Cluster(Change::ServiceGone(Name::new("default", "web"))));
    assert!(settle(&mut agent) > 0);
    assert_eq!(agent.effort().of_everything, of_everything);
    // An address of the node may be a frontend, too.
    agent.on(Event::Devices(vec![device(1, DeviceRole::Network, Vec::new())]));
    settle(&mut agent);
    assert_eq!(agent.effort().of_everything, of_everything + 1);
}

/// A slice of the Service `web` with `count` endpoints, the last of which has this number.
fn slice(count: u8, last: u8) -> Change {
    let endpoint = |number: u8| Endpoint {
        address: IpAddr::from([10, 244, 1, number]),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        hints: None,
    };
    let name = Name::new("default", "web");
    Change::Slice(EndpointSlice {
        name: name.clone(),
        service: name,
        family: Family::V4,
        headless: false,
        ports: vec![EndpointPort { name: "".into(), protocol: Protocol::TCP, port: 8080 }],
        endpoints: (1..count).chain([last]).map(endpoint).collect(),
        triggered: None,
    })
}

/// Each plan frees slots, with which the next one might make pools larger; if that were planned over everything each
/// time, changes that go on would never be planned by themselves again.
#[test]
fn while_slots_are_few_changes_that_go_on_are_planned_by_themselves_all_the_same() {
    let mut agent = agent();
    agent.on(devices());
    agent.on(Event::Cluster(service("web")));
    agent.on(Event::Cluster(slice(20, 20)));
    agent.on(Event::Cluster(Change::Synced));
    let follow = |agent: &mut Agent, last: u8| {
        agent.on(Event::Cluster(slice(20, last)));
        let effects = agent.on(Event::Tick);
        for effect in &effects {
            if let Effect::Write(operations) = effect {
                agent.on(all(operations));
            }
        }
        agent.effort().of_everything
    };
    follow(&mut agent, 20);
    assert!(agent.planning.has_small_pools());
    let since_start: Vec<u64> = (21..30).map(|last| follow(&mut agent, last)).collect();
    assert!(since_start.ends_with(&[2; 8]), "{since_start:?}");
    // There may be more slots by now.
    let reread = agent.on(Event::Reread(Box::new(agent.contents().clone())));
    assert_eq!(reread, [Effect::WakeIn(Duration::ZERO)]);
    let since_reread: Vec<u64> = (30..39).map(|last| follow(&mut agent, last)).collect();
    assert!(since_reread.ends_with(&[4; 8]), "{since_reread:?}");
}
