//! Nodes that are not attached to their network by a card alone: by a bridge, a macvlan device, or two cards of which each
//! has its own way back. Bonds and VLANs need modules that not every kernel has: `every_kernel` tries them.

use anyhow::{Context, Result, ensure};
use lb_common::address::Family;
use weir_tests::agent::{Agent, weir};
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Lab, Namespace, Shape, Uplink};
use weir_tests::manifests::Manifests;
use weir_tests::requires;
use weir_tests::traffic::{self, Client, ask};

#[test]
fn a_node_behind_a_bridge_serves_all_traffic() -> Result<()> {
    check(Uplink::Bridge)
}

#[test]
fn a_node_behind_a_macvlan_device_serves_all_traffic() -> Result<()> {
    check(Uplink::Macvlan)
}

fn check(uplink: Uplink) -> Result<()> {
    let Some(fixture) = Fixture::start(Shape { uplink, ..Shape::default() })? else {
        return Ok(());
    };
    fixture.check_traffic()?;
    let shown = weir(&fixture.lab.node1, &["show", "devices"])?;
    ensure!(shown.contains("eth0") && !shown.contains("nic0"), "{shown}");
    Ok(())
}

/// A fixture whose lab is changed before the agent starts.
fn start(
    shape: Shape,
    arguments: &[&str],
    change: fn(&Lab) -> Result<()>,
) -> Result<Option<Fixture>> {
    let Some(lab) = requires::lab(shape)? else {
        return Ok(None);
    };
    change(&lab)?;
    let servers = traffic::serve(&lab)?;
    let manifests = Manifests::nodes(&lab)?;
    for served in ServedBy::ALL {
        manifests.offer(&served.offer(&lab))?;
    }
    let agent = Agent::start(&lab.node1, &manifests, arguments)?;
    Ok(Some(Fixture { agent: Some(agent), servers, manifests, lab }))
}

/// The size of a jumbo frame's packet: more than a driver's buffer for XDP holds.
const JUMBO: u32 = 9000;

#[test]
fn jumbo_frames_are_served_at_tc_where_the_driver_refuses_xdp_and_says_so_once() -> Result<()> {
    let shape = Shape { offloads: false, delivers_xdp_tx: false, ..Shape::default() };
    let Some(fixture) = start(shape, &["--xdp", "native"], enlarge)? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    fixture.check_traffic()?;
    for served in ServedBy::ALL {
        let node_port = served.offer(lab).node_port();
        for family in Family::ALL {
            let frontend = (lab.node1.addresses.of(family), node_port).into();
            Client::connect(&lab.client, frontend)?.exchange(1 << 20)?;
            // In one frame, with room for the response's first line.
            ask(&lab.client, frontend, JUMBO as usize - 200)?;
        }
    }
    let shown = weir(&lab.node1, &["show", "devices", "-o", "wide"])?;
    ensure!(shown.contains(REFUSED), "{shown}");
    let agent = fixture.agent.as_ref().context("the agent")?;
    // Whatever happens to devices, it is not tried again.
    lab.node1.namespace.ip("link add again type bridge\nlink set again up\n")?;
    fixture.check_traffic()?;
    let errors = agent.lines(REFUSED).into_iter().filter(|line| line.contains(" ERROR "));
    let errors: Vec<String> = errors.collect();
    ensure!(errors.len() == 1, "{errors:?}");
    Ok(())
}

const REFUSED: &str = "the MTU of eth0 is larger than its driver's buffers for XDP: TC alone";

/// Gives every device of the lab the MTU of jumbo frames.
fn enlarge(lab: &Lab) -> Result<()> {
    for namespace in lab.namespaces() {
        let devices = namespace.output("ip", &["-brief", "link", "show"])?;
        let names = devices.lines().filter_map(|line| line.split(['@', ' ']).next());
        let lines = names.filter(|name| *name != "lo");
        let lines: String = lines.map(|name| format!("link set {name} mtu {JUMBO}\n")).collect();
        namespace.ip(&lines)?;
    }
    Ok(())
}

/// The node's second address, in a subnet of its own, and the router's there.
const SECOND: [&str; 2] = ["172.31.0.11", "fd31::11"];
const ROUTER: [&str; 2] = ["172.31.0.1", "fd31::1"];

#[test]
fn answers_leave_by_the_card_that_has_the_address_the_client_knows() -> Result<()> {
    for (attachment, xdp) in [("tc", "off"), ("xdp", "generic")] {
        let offloads = xdp == "off";
        let shape = Shape { offloads, ..Shape::default() };
        let arguments = ["--xdp", xdp, "--nodeport-addresses", "0.0.0.0/0,::/0"];
        let Some(fixture) = start(shape, &arguments, add_second_card)? else {
            return Ok(());
        };
        let lab = &fixture.lab;
        for served in ServedBy::ALL {
            let node_port = served.offer(lab).node_port();
            for address in SECOND {
                let frontend = (address.parse::<std::net::IpAddr>()?, node_port).into();
                let reached = Client::connect(&lab.client, frontend)
                    .and_then(|mut client| client.exchange(100_000))
                    .and_then(|_| ask(&lab.client, frontend, 1000));
                reached.with_context(|| format!("{served:?} at {frontend}, by {attachment}"))?;
            }
        }
    }
    Ok(())
}

/// Gives node1 a second card with addresses of its own, and rules by which what is sent from them leaves by it; the
/// router takes nothing from these addresses that comes by another one, as clouds do.
fn add_second_card(lab: &Lab) -> Result<()> {
    let node = &lab.node1.namespace;
    let pair = format!(
        "link add second type veth peer name eth1 netns {}\nlink set second up\n",
        node.name()
    );
    let [router_v4, router_v6] = ROUTER;
    lab.network.ip(&format!(
        "{pair}addr add {router_v4}/24 dev second\naddr add {router_v6}/64 dev second\n"
    ))?;
    let [v4, v6] = SECOND;
    node.ip(&format!(
        "link set eth1 up
         addr add {v4}/24 dev eth1
         addr add {v6}/64 dev eth1
         route add default via {router_v4} dev eth1 table 101
         rule add from {v4} lookup 101
         route add default via {router_v6} dev eth1 table 101
        "
    ))?;
    node.output("ip", &["-6", "rule", "add", "from", v6, "lookup", "101"])?;
    if !lab.shape.offloads {
        disable_offloads(node, "eth1")?;
        disable_offloads(&lab.network, "second")?;
    }
    // Dropped where it is forwarded: a bridge's port is not what netfilter sees there.
    let rules = format!(
        "table inet second {{
            chain forward {{
                type filter hook forward priority 0
                ip saddr {v4} iifname != second drop
                ip6 saddr {v6} iifname != second drop
            }}
         }}"
    );
    lab.network.output("nft", &[&rules]).map(drop)
}

fn disable_offloads(namespace: &Namespace, device: &str) -> Result<()> {
    let off = ["-K", device, "tx", "off", "rx", "off", "gso", "off", "gro", "off", "tso", "off"];
    namespace.output("ethtool", &off).map(drop)
}
