//! A node in a lab of its own, and the packets that enter it.

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lb_common::address::Protocol;
use lb_ebpf::cases::frame::{self, Kind};
use weir_tests::agent::Agent;
use weir_tests::fixture::ServedBy;
use weir_tests::lab::{Lab, Namespace, Shape, addresses};
use weir_tests::manifests::{Manifests, Offer};
use weir_tests::traffic::raw::{BATCH, RawSender};
use weir_tests::traffic::{self, ECHO_PORT, Servers};
use weir_tests::wait::until;

use crate::kube_proxy;

/// Flows; each has a port of its own at the client.
const FLOWS: u16 = 4096;
const FIRST_PORT: u16 = 20_000;
/// The port that packets of the floor go to.
const DISCARD: u16 = 9;
const PAYLOAD: [u8; 18] = [0; 18];

/// What balances on a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Proxy {
    /// Nothing, and every packet is dropped as it enters: what sending costs.
    Floor,
    /// Nothing.
    None,
    /// kube-proxy's rules.
    Kubernetes,
    /// Weir without XDP.
    WeirTc,
    /// Weir with it.
    WeirXdp,
}

impl Proxy {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Floor, Self::None, Self::Kubernetes, Self::WeirTc, Self::WeirXdp];
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Floor => "floor: dropped as it enters the node",
            Self::None => "no proxy",
            Self::Kubernetes => "kube-proxy (nftables)",
            Self::WeirTc => "Weir, TC",
            Self::WeirXdp => "Weir, XDP",
        })
    }
}

/// What a packet is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Path {
    /// Nothing: it is dropped as it enters.
    Floor,
    /// A pod of this node.
    PodHere,
    /// A pod of the other node.
    PodRemote,
    /// A NodePort with its backend here.
    NodePortHere,
    /// A NodePort with its backend on the other node.
    NodePortRemote,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Floor => "dropped",
            Self::PodHere => "routed to a pod here",
            Self::PodRemote => "routed to a remote pod",
            Self::NodePortHere => "NodePort to a backend here",
            Self::NodePortRemote => "NodePort to a remote backend",
        })
    }
}

/// A node at work. Fields are dropped in their order: the lab last.
pub struct Node {
    proxy: Proxy,
    sender: RawSender,
    frames: Vec<(Path, Vec<Vec<u8>>)>,
    agent: Option<Agent>,
    _servers: Vec<Servers>,
    lab: Lab,
}

impl Node {
    /// Starts it, and establishes every flow.
    pub fn start(proxy: Proxy) -> Result<Self> {
        let xdp = proxy == Proxy::WeirXdp;
        let shape = Shape {
            local_pods: 1,
            remote_pods: 1,
            offloads: false,
            delivers_xdp_tx: xdp,
            ..Shape::default()
        };
        let lab = Lab::new(shape)?;
        let servers = traffic::serve(&lab)?;
        let offers = [ServedBy::LocalPods, ServedBy::RemotePods].map(|served| served.offer(&lab));
        let agent = match proxy {
            Proxy::Floor | Proxy::None => None,
            Proxy::Kubernetes => {
                nft(&lab.node1.namespace, &kube_proxy_rules(&lab, &offers))?;
                None
            }
            Proxy::WeirTc | Proxy::WeirXdp => {
                let manifests = Manifests::nodes(&lab)?;
                offers.iter().try_for_each(|offer| manifests.offer(offer))?;
                let mode = if xdp { "native" } else { "off" };
                Some(Agent::start(&lab.node1, &manifests, &["--xdp", mode])?)
            }
        };
        let sender = RawSender::new(&lab.network, "node1")?;
        let mut frames = Vec::new();
        for path in paths(proxy) {
            frames.push((path, self::frames(&lab, path, &offers)?));
        }
        drop(offers);
        let node = Self { proxy, sender, frames, agent, _servers: servers, lab };
        node.establish()?;
        node.count_and_drop()?;
        Ok(node)
    }

    /// What balances on it.
    pub const fn proxy(&self) -> Proxy {
        self.proxy
    }

    /// The paths that packets take through it.
    pub fn paths(&self) -> impl Iterator<Item = Path> {
        paths(self.proxy)
    }

    /// Has every flow of packets replied to by the pods, twice, so that it is established.
    fn establish(&self) -> Result<()> {
        let client = &self.lab.client;
        nft(
            client,
            "table inet bench { counter seen { }
               chain input { type filter hook input priority 0; meta l4proto udp counter name seen drop; }; }",
        )?;
        for (path, frames) in self.frames.iter().filter(|(path, _)| *path != Path::Floor) {
            for _ in 0..3 {
                for frames in frames.chunks(BATCH) {
                    let before = seen(client)?;
                    self.sender.send(frames)?;
                    until(&format!("replies, {path}"), Duration::from_secs(5), || {
                        let replies = seen(client)? - before;
                        let expected = frames.len() as u64;
                        ensure!(replies >= expected, "{replies} of {expected} have arrived");
                        Ok(())
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Has packets counted and dropped where they leave the node: as they enter the pod, or as they come
    /// back to the network.
    fn count_and_drop(&self) -> Result<()> {
        let at = |namespace: &Namespace, device: &str, port: u16| {
            nft(
                namespace,
                &format!(
                    "table netdev bench {{ counter seen {{ }}
                       chain ingress {{
                         type filter hook ingress device \"{device}\" priority 0;
                         udp dport {port} counter name seen drop
                       }}; }}"
                ),
            )
        };
        if self.proxy == Proxy::Floor {
            return at(&self.lab.node1.namespace, "eth0", DISCARD);
        }
        at(&self.lab.node1.pods[0].namespace, "eth0", ECHO_PORT)?;
        at(&self.lab.network, "node1", ECHO_PORT)
    }

    /// Nanoseconds that a packet on this path takes, sending included. None may be lost.
    pub fn sample(&mut self, path: Path, packets: u32) -> Result<f64> {
        if let Some(agent) = &mut self.agent {
            agent.check_running()?;
        }
        let end = match path {
            Path::Floor => &self.lab.node1.namespace,
            Path::PodHere | Path::NodePortHere => &self.lab.node1.pods[0].namespace,
            Path::PodRemote | Path::NodePortRemote => &self.lab.network,
        };
        let frames = self.frames.iter().find(|(other, _)| *other == path);
        let (_, frames) = frames.context("no packets take this path")?;
        self.sender.send(frames)?;
        let before = seen(end)?;
        let rounds = (packets / u32::from(FLOWS)).max(1);
        let begun = Instant::now();
        for _ in 0..rounds {
            self.sender.send(frames)?;
        }
        let took = begun.elapsed();
        let (arrived, sent) = (seen(end)? - before, u64::from(rounds) * u64::from(FLOWS));
        ensure!(arrived == sent, "{arrived} of {sent} packets have arrived");
        Ok(took.as_nanos() as f64 / sent as f64)
    }
}

fn paths(proxy: Proxy) -> impl Iterator<Item = Path> {
    let paths: &[Path] = match proxy {
        Proxy::Floor => &[Path::Floor],
        Proxy::None => &[Path::PodHere, Path::PodRemote],
        Proxy::Kubernetes | Proxy::WeirTc | Proxy::WeirXdp => {
            &[Path::PodHere, Path::PodRemote, Path::NodePortHere, Path::NodePortRemote]
        }
    };
    paths.iter().copied()
}

/// The frames of all flows on a path, as the router sends them to node1.
fn frames(lab: &Lab, path: Path, offers: &[Offer; 2]) -> Result<Vec<Vec<u8>>> {
    let node = IpAddr::V4(lab.node1.addresses.v4);
    let pod = |pod: &weir_tests::lab::Pod| (IpAddr::V4(pod.addresses.v4), ECHO_PORT);
    let (address, port) = match path {
        Path::Floor => (node, DISCARD),
        Path::PodHere => pod(&lab.node1.pods[0]),
        Path::PodRemote => pod(&lab.node2.pods[0]),
        Path::NodePortHere => (node, offers[0].node_port()),
        Path::NodePortRemote => (node, offers[1].node_port()),
    };
    // Each path has clients' ports of its own: a flow is not another's, however it is translated.
    let first = FIRST_PORT + FLOWS * path as u16;
    let to = SocketAddr::new(address, port);
    let links =
        [lab.node1.namespace.link_address("eth0")?, lab.network.link_address("nodes")?].concat();
    let frame = |flow: u16| {
        let from = SocketAddr::new(addresses::CLIENT.v4.into(), first + flow);
        let mut frame = frame::frame(from, to, Protocol::UDP, Kind::Data, &PAYLOAD);
        frame[..12].copy_from_slice(&links);
        frame
    };
    Ok((0..FLOWS).map(frame).collect())
}

fn kube_proxy_rules(lab: &Lab, offers: &[Offer; 2]) -> String {
    let services =
        [("here", &offers[0]), ("remote", &offers[1])].map(|(name, offer)| kube_proxy::Service {
            name,
            cluster: SocketAddrV4::new(offer.cluster_ips().v4, Offer::PORT),
            node_port: offer.node_port(),
            endpoint: SocketAddrV4::new(offer.pods[0].addresses.v4, ECHO_PORT),
        });
    kube_proxy::rules(lab.node1.addresses.v4, &services)
}

/// Loads rules in `namespace`.
fn nft(namespace: &Namespace, rules: &str) -> Result<()> {
    let mut child = namespace
        .command("nft")?
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start `nft`: install the package nftables")?;
    child.stdin.take().context("nft reads nothing")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("nft: {}in:\n{rules}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Packets that the counter in `namespace` has seen.
fn seen(namespace: &Namespace) -> Result<u64> {
    let text = namespace.output("nft", &["-j", "list", "counters"])?;
    let listed: serde_json::Value = serde_json::from_str(&text)?;
    let items = listed["nftables"].as_array().context("nft lists nothing")?;
    let counter = items.iter().find_map(|item| item["counter"]["packets"].as_u64());
    counter.context("nft lists no counter")
}
