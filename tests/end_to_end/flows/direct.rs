//! One source port of a client, to a pod itself and to a Service that leads to that pod, in either order:
//! the replies look alike, and both must reach the client as from where it sent to.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use lb_common::address::{Family, Protocol};
use lb_common::outcome::Outcome;
use weir_tests::fixture::{Fixture, ServedBy};
use weir_tests::lab::{Addresses, Attachment, Namespace, Shape, addresses};
use weir_tests::manifests::Offer;
use weir_tests::traffic::{Client, ECHO_PORT, HTTP_PORT, TIMEOUT};

/// A client, and the two ways to one pod.
struct Paths<'a> {
    name: &'static str,
    client: &'a Namespace,
    own: Addresses,
    frontend: Box<dyn Fn(Family) -> SocketAddr + 'a>,
    pod: Addresses,
}

#[test]
fn one_source_port_reaches_a_pod_itself_and_through_its_service() -> Result<()> {
    check(Shape::default())
}

#[test]
fn the_same_where_pods_are_ports_of_a_bridge_and_nothing_is_offloaded() -> Result<()> {
    let attachment = Attachment::Bridged;
    check(Shape { attachment, offloads: false, ..Shape::default() })
}

fn check(shape: Shape) -> Result<()> {
    let Some(fixture) = Fixture::start(shape)? else {
        return Ok(());
    };
    let lab = &fixture.lab;
    let (client, remote_pod) = (&lab.node1.pods[1], &lab.node2.pods[0]);
    let local = ServedBy::OnePod.offer(lab);
    let remote = Offer { name: "one-remote", number: 16, pods: vec![remote_pod] };
    fixture.add(&remote)?;
    let cluster_ip = |offer: &Offer, family| (offer.cluster_ips().of(family), Offer::PORT).into();
    let node = lab.node1.addresses;
    let paths = [
        Paths {
            name: "a pod to a local one",
            client: &client.namespace,
            own: client.addresses,
            frontend: Box::new(|family| cluster_ip(&local, family)),
            pod: lab.node1.pods[0].addresses,
        },
        Paths {
            name: "a pod to a remote one",
            client: &client.namespace,
            own: client.addresses,
            frontend: Box::new(|family| cluster_ip(&remote, family)),
            pod: remote_pod.addresses,
        },
        Paths {
            name: "a client outside",
            client: &lab.client,
            own: addresses::CLIENT,
            frontend: Box::new(|family| (node.of(family), local.node_port()).into()),
            pod: lab.node1.pods[0].addresses,
        },
    ];
    let (mut port, mut broken) = (41_000, Vec::new());
    for path in &paths {
        for family in Family::ALL {
            for protocol in [Protocol::TCP, Protocol::UDP] {
                for pod_first in [true, false] {
                    port += 1;
                    if let Err(error) = path.use_both(family, protocol, pod_first, port) {
                        let order = if pod_first { "pod first" } else { "Service first" };
                        let name = path.name;
                        broken.push(format!("{name}, {family}, {protocol}, {order}: {error:#}"));
                    }
                }
            }
        }
    }
    ensure!(broken.is_empty(), "{} of 24 break:\n{}", broken.len(), broken.join("\n"));
    ensure!(fixture.counted(Outcome::PassedDirect)? > 0, "no flow was known to be direct");
    ensure!(fixture.counted(Outcome::ForwardedDirect)? > 0, "no flow got another port");
    ensure!(fixture.counted(Outcome::PassedUntracked)? == 0, "a flow found no room");
    fixture.check_traffic()
}

impl Paths<'_> {
    /// Sends from one port by both ways, the pod's own address first or last, and then by turns.
    fn use_both(
        &self,
        family: Family,
        protocol: Protocol,
        pod_first: bool,
        port: u16,
    ) -> Result<()> {
        let own = SocketAddr::from((self.own.of(family), port));
        let at = if protocol == Protocol::TCP { HTTP_PORT } else { ECHO_PORT };
        let mut servers = [(self.pod.of(family), at).into(), (self.frontend)(family)];
        if !pod_first {
            servers.reverse();
        }
        if protocol == Protocol::TCP {
            self.connect_both(own, servers)
        } else {
            self.ask_both(own, servers)
        }
    }

    fn connect_both(&self, own: SocketAddr, servers: [SocketAddr; 2]) -> Result<()> {
        let connect = |server| Client::connect_from(self.client, own, server);
        let mut clients = servers.map(connect).into_iter().collect::<Result<Vec<_>>>()?;
        for _ in 0..3 {
            let mut ports = Vec::new();
            for (client, server) in clients.iter_mut().zip(servers) {
                let seen = client.exchange(2000).with_context(|| format!("to {server}"))?.client;
                ensure!(seen.ip() == own.ip(), "{server} saw {seen}");
                ports.push(seen.port());
            }
            ensure!(ports[0] == own.port() && ports[1] != own.port(), "ports seen: {ports:?}");
        }
        Ok(())
    }

    /// The same with datagrams of one socket, for longer than it takes a flow to be established.
    fn ask_both(&self, own: SocketAddr, servers: [SocketAddr; 2]) -> Result<()> {
        let socket = self.client.run(|| Ok(UdpSocket::bind(own)?))?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        for number in 0..6_u8 {
            for server in servers {
                socket.send_to(&[number], server)?;
                let mut reply = [0; 100];
                let (length, from) =
                    socket.recv_from(&mut reply).with_context(|| format!("to {server}"))?;
                ensure!(from == server, "a reply of {server} came from {from}");
                ensure!(reply[..length].last() == Some(&number), "another reply from {from}");
            }
        }
        Ok(())
    }
}
