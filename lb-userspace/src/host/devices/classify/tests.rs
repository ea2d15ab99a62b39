use super::*;
use crate::model::DefaultRoutes;

fn link(index: u32, name: &str, kind: &str) -> Link {
    Link { index, name: name.into(), kind: kind.into(), ..Link::default() }
}

fn with_address(mut link: Link, address: &str) -> Link {
    link.addresses.push(address.parse().unwrap());
    link
}

fn pod(index: u32, name: &str) -> Link {
    Link { has_peer_in_other_netns: true, ..link(index, name, "veth") }
}

fn roles(links: &[Link], selection: &Selection) -> Vec<Option<DeviceRole>> {
    classify(links, selection).iter().map(|d| d.role).collect()
}

fn network(names: &str) -> Selection {
    Selection { network: Some(names.parse().unwrap()), pods: None }
}

#[test]
fn the_loopback_device_is_never_taken_not_even_by_name() {
    let lo = Link { is_loopback: true, ..with_address(link(1, "lo", ""), "10.0.0.1/32") };
    assert_eq!(roles(std::slice::from_ref(&lo), &Selection::default()), [None]);
    assert_eq!(roles(&[lo], &network("*")), [None]);
}

#[test]
fn hardware_with_an_address_or_the_default_route_faces_the_network() {
    let addressed = with_address(link(2, "eth0", ""), "192.0.2.1/24");
    let routed =
        Link { default_routes: DefaultRoutes { v4: true, v6: false }, ..link(3, "eth1", "") };
    let idle = link(4, "eth2", "");
    assert_eq!(
        roles(&[addressed, routed, idle], &Selection::default()),
        [Some(DeviceRole::Network), Some(DeviceRole::Network), None]
    );
}

#[test]
fn a_pair_into_another_namespace_faces_a_pod_even_with_a_gateway_address() {
    let gateway = with_address(pod(6, "veth1"), "10.244.0.1/32");
    let gateway = with_address(gateway, "fd00:10::1/128");
    assert_eq!(
        roles(&[pod(5, "veth0"), gateway, link(7, "veth2", "veth")], &Selection::default()),
        [Some(DeviceRole::Pod), Some(DeviceRole::Pod), None]
    );
}

#[test]
fn the_way_out_of_a_node_that_is_a_container_faces_the_network() {
    let subnet = with_address(pod(5, "eth0"), "172.18.0.2/16");
    let routed = Link { default_routes: DefaultRoutes { v4: true, v6: false }, ..pod(6, "eth1") };
    assert_eq!(
        roles(&[subnet, routed], &Selection::default()),
        [Some(DeviceRole::Network), Some(DeviceRole::Network)]
    );
}

#[test]
fn a_bridge_of_pods_is_left_alone_and_its_ports_face_pods() {
    let cni0 = with_address(link(5, "cni0", "bridge"), "10.244.0.1/24");
    let port = Link { port_of: Some(5), ..pod(6, "veth0") };
    assert_eq!(roles(&[cni0.clone(), port], &Selection::default()), [None, Some(DeviceRole::Pod)]);
    assert_eq!(roles(&[cni0], &Selection::default()), [None]);
}

#[test]
fn a_bridge_over_hardware_faces_the_network() {
    let br0 = with_address(link(5, "br0", "bridge"), "192.0.2.1/24");
    let port = Link { port_of: Some(5), ..link(2, "eth0", "") };
    assert_eq!(roles(&[br0, port], &Selection::default()), [Some(DeviceRole::Network), None]);
}

#[test]
fn tunnels_face_the_network_with_ethernet_frames_and_without() {
    let network = Some(DeviceRole::Network);
    let tun = Link { link_layer: LinkLayer::None, ..link(8, "tun0", "tun") };
    let links = [
        link(7, "flannel.1", "vxlan"),
        Link { link_layer: LinkLayer::None, ..link(8, "wg0", "wireguard") },
        Link { link_layer: LinkLayer::None, ..link(9, "tunl0", "ipip") },
        with_address(tun, "10.8.0.1/24"),
    ];
    let devices = classify(&links, &Selection::default());
    assert!(devices.iter().all(|device| device.role == network), "{devices:?}");
    let has_header = |device: &Device| device.to_node_device(false).has_link_header;
    assert_eq!(devices.iter().map(has_header).collect::<Vec<_>>(), [true, false, false, false]);
}

#[test]
fn devices_whose_packets_the_programs_cannot_read_are_left_alone() {
    let infiniband = Link { link_layer: LinkLayer::Other, ..link(3, "ib0", "") };
    let infiniband = with_address(infiniband, "192.0.2.1/24");
    assert_eq!(roles(std::slice::from_ref(&infiniband), &Selection::default()), [None]);
    assert_eq!(roles(&[infiniband], &network("ib0")), [None]);
    let pod = Link { link_layer: LinkLayer::None, ..pod(4, "nk0") };
    assert_eq!(roles(&[pod], &Selection::default()), [None]);
}

#[test]
fn a_flag_replaces_what_would_have_been_found_for_its_role_alone() {
    let links = [
        with_address(link(2, "eth0", ""), "192.0.2.1/24"),
        with_address(link(3, "eth1", ""), "198.51.100.1/24"),
        pod(4, "veth0"),
    ];
    let selection = network("eth1,wan*");
    assert_eq!(roles(&links, &selection), [None, Some(DeviceRole::Network), Some(DeviceRole::Pod)]);
    assert_eq!(selection.unmatched(&links), [("--network-devices", "wan*".into())]);
}

#[test]
fn what_carries_the_device_with_the_address_is_left_alone_whatever_it_looks_like() {
    let address = "192.0.2.1/24";
    let (none, network) = (None, Some(DeviceRole::Network));
    for kind in ["vlan", "macvlan", "ipvlan"] {
        let upper = Link { upon: Some(5), ..with_address(link(6, "eth0", kind), address) };
        assert_eq!(
            roles(&[pod(5, "nic0"), upper], &Selection::default()),
            [none, network],
            "{kind}"
        );
    }
    for kind in ["bond", "team"] {
        let upper = with_address(link(6, "bond0", kind), address);
        let port = |index, name| Link { port_of: Some(6), ..pod(index, name) };
        let links = [port(4, "nic0"), port(5, "nic1"), upper];
        assert_eq!(roles(&links, &Selection::default()), [none, none, network], "{kind}");
        assert!(classify(&links, &Selection::default())[2].is_over_veth);
    }
}

#[test]
fn the_one_port_of_the_bridge_that_the_default_route_leaves_by_leads_out() {
    let port = |index, name| Link { port_of: Some(9), ..pod(index, name) };
    let br0 = Link {
        default_routes: DefaultRoutes { v4: true, v6: false },
        ..with_address(link(9, "br0", "bridge"), "192.0.2.1/24")
    };
    let (none, network) = (None, Some(DeviceRole::Network));
    assert_eq!(roles(&[port(5, "nic0"), br0.clone()], &Selection::default()), [none, network]);
    // Which of several leads out cannot be seen.
    let several = [port(5, "nic0"), port(6, "veth0"), br0];
    let pods = Some(DeviceRole::Pod);
    assert_eq!(roles(&several, &Selection::default()), [pods, pods, network]);
    assert_eq!(roles(&several, &network_and_pods("br0", "veth*")), [none, pods, network]);
}

fn network_and_pods(network: &str, pods: &str) -> Selection {
    Selection { network: Some(network.parse().unwrap()), pods: Some(pods.parse().unwrap()) }
}

#[test]
fn addresses_are_the_nodes_on_whatever_device_but_those_that_kube_proxy_has_left() {
    let dummy = with_address(link(5, "kube-vip", "dummy"), "203.0.113.1/32");
    let [of_proxy, of_router] =
        IPVS_DEVICES.map(|name| with_address(link(6, name, "dummy"), "10.96.0.1/32"));
    let devices = classify(&[dummy, of_proxy, of_router], &Selection::default());
    let node_devices: Vec<_> = devices.iter().map(|device| device.to_node_device(false)).collect();
    assert!(node_devices.iter().all(|device| device.role.is_none()));
    assert_eq!(node_devices[0].addresses, ["203.0.113.1".parse::<std::net::IpAddr>().unwrap()]);
    assert!(node_devices[1..].iter().all(|device| device.addresses.is_empty()));
}
