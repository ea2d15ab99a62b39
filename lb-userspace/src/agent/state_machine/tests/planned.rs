//! What is planned, and what is said about it.

use super::*;

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
