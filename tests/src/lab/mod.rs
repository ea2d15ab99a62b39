//! A lab: a client, a network and two nodes with pods, each a network namespace of this machine.
//!
//! ```text
//!  client ──── network ────┬──── node1 ──┬── pod web-1      every line is a veth pair; `network` is
//!              (a router,  │             ├── pod web-2      a router towards the client and a bridge
//!               a bridge)  │             └── pod web-3      between the nodes
//!                          └──── node2 ──┬── pod web-4
//!                                        └── pod web-5
//! ```
//!
//! Nothing of it outlives the [`Lab`] value, nor the process; see [`cleanup`].

pub mod addresses;
pub mod cgroup;
mod cleanup;
mod links;
mod namespace;
mod path_mtu;
mod pods;
mod xdp_peer;

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lb_common::address::Family;
use nix::mount::{MsFlags, mount};

pub use addresses::Addresses;
pub use cleanup::is_ending;
pub use namespace::Namespace;
pub use path_mtu::NarrowLink;

/// What varies between labs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Pods on node1, at most 99.
    pub local_pods: u8,
    /// Pods on node2, at most 99.
    pub remote_pods: u8,
    /// How pods are attached to their node.
    pub attachment: Attachment,
    /// How the nodes reach each other's pods.
    pub pod_routing: PodRouting,
    /// Whether devices leave checksums and segmentation to whoever receives, as veth pairs do by
    /// default; without, every packet is as it would be on a wire.
    pub offloads: bool,
    /// Whether what XDP sends out of a node's network device arrives, as it does with a real card;
    /// on veth pairs it does not by default. Wants `offloads` off.
    pub delivers_xdp_tx: bool,
}

/// How pods are attached to their node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attachment {
    /// A route to each pod, as Calico and Cilium do it.
    Routed,
    /// A bridge that all pods of the node are ports of, as the CNI plugin `bridge` and flannel do.
    Bridged,
}

/// How the nodes reach each other's pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PodRouting {
    /// A route to the other node's pods through that node.
    Direct,
    /// A vxlan device, with neighbours and forwarding entries written by hand as flannel does.
    Overlay,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            local_pods: 3,
            remote_pods: 2,
            attachment: Attachment::Routed,
            pod_routing: PodRouting::Direct,
            offloads: true,
            delivers_xdp_tx: false,
        }
    }
}

/// A running lab. Dropping it removes everything.
#[derive(Debug)]
pub struct Lab {
    /// What it is like.
    pub shape: Shape,
    /// A host outside the cluster.
    pub client: Namespace,
    /// The router between client and nodes; a host on the nodes' own network.
    pub network: Namespace,
    /// The node that Weir runs on.
    pub node1: Node,
    /// Another node.
    pub node2: Node,
    name: cleanup::Name,
    xdp_peers: Vec<OwnedFd>,
}

/// A node and its pods.
#[derive(Debug)]
pub struct Node {
    /// Its name in manifests.
    pub name: &'static str,
    /// Its addresses.
    pub addresses: Addresses,
    /// Where it lives.
    pub namespace: Namespace,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// A bpffs of its own.
    pub bpffs: PathBuf,
    /// The control group whose processes' sockets Weir balances, those of this process; `None` where
    /// the machine has no cgroup v2.
    pub cgroup: Option<PathBuf>,
    number: u8,
}

/// A pod.
#[derive(Debug)]
pub struct Pod {
    /// Its name in manifests.
    pub name: String,
    /// The node it is on.
    pub node: &'static str,
    /// Its addresses.
    pub addresses: Addresses,
    /// Where it lives; its device there is `eth0`.
    pub namespace: Namespace,
    /// Its device on the node.
    pub device: String,
}

impl Lab {
    /// Makes a lab.
    ///
    /// # Errors
    /// If the process may not make namespaces, or a tool is missing; nothing is left then.
    pub fn new(shape: Shape) -> Result<Self> {
        let name = cleanup::Name::new()?;
        let namespace = |role: &str| Namespace::named(name.namespace(role));
        let mut lab = Self {
            shape,
            client: namespace("client"),
            network: namespace("network"),
            node1: Node::new(&name, 1, 0, shape.local_pods),
            node2: Node::new(&name, 2, shape.local_pods, shape.remote_pods),
            name,
            xdp_peers: Vec::new(),
        };
        links::lay(&lab).context("cannot make a lab of network namespaces")?;
        if shape.delivers_xdp_tx {
            let deliver = |node: &Node| xdp_peer::attach_pass_all(&lab.network, node.name);
            lab.xdp_peers =
                [&lab.node1, &lab.node2].map(deliver).into_iter().collect::<Result<_>>()?;
        }
        for node in [&lab.node1, &lab.node2] {
            mount_bpffs(&node.bpffs)?;
        }
        Ok(lab)
    }

    /// Starts another pod on node1, the last of its pods then.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn start_pod(&mut self) -> Result<()> {
        let index = self.node1.pods.len() as u8 + 1;
        let pod = self.node1.pod(&self.name, index, self.pods().count() as u8 + 1);
        links::make(&[&pod.namespace])?;
        pods::attach(self.shape, &self.node1, &pod)?;
        if !self.shape.offloads {
            links::disable_offloads(&pod.namespace)?;
        }
        self.node1.pods.push(pod);
        Ok(())
    }

    /// Removes the device of the last of node1's pods, and the pod.
    ///
    /// # Errors
    /// If there is none.
    pub fn stop_pod(&mut self) -> Result<()> {
        let pod = self.node1.pods.pop().context("node1 has no pod to stop")?;
        // The kernel takes its time to remove a namespace's devices; this one is gone at once.
        self.node1.namespace.ip(&format!("link delete {}", pod.device))?;
        namespace::ip(&[], &format!("netns delete {}", pod.namespace.name()))
    }

    /// A folder that is removed with the lab.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.name.folder()
    }

    /// All pods, node1's first.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.node1.pods.iter().chain(&self.node2.pods)
    }

    /// Every namespace there is.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        let hosts = [&self.client, &self.network, &self.node1.namespace, &self.node2.namespace];
        hosts.into_iter().chain(self.pods().map(|pod| &pod.namespace))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.name.remove();
    }
}

impl Node {
    /// Whether `address` is one of the node's own that its peers know.
    #[must_use]
    pub fn owns(&self, address: IpAddr) -> bool {
        let of = |own: Addresses| own.of(Family::of(&address)) == address;
        of(self.addresses) || of(addresses::overlay(self.number))
    }

    fn new(lab: &cleanup::Name, number: u8, pods_before: u8, pods: u8) -> Self {
        let name = if number == 1 { "node1" } else { "node2" };
        let mut node = Self {
            name,
            addresses: addresses::node(number),
            namespace: Namespace::named(lab.namespace(name)),
            pods: Vec::new(),
            bpffs: lab.folder().join(format!("bpffs-{name}")),
            cgroup: cleanup::cgroup(),
            number,
        };
        node.pods = (1..=pods).map(|index| node.pod(lab, index, pods_before + index)).collect();
        node
    }

    /// The node's pod `index`, which is the lab's pod `number`.
    fn pod(&self, lab: &cleanup::Name, index: u8, number: u8) -> Pod {
        let name = format!("web-{number}");
        Pod {
            node: self.name,
            addresses: addresses::pod(self.number, index),
            namespace: Namespace::named(lab.namespace(&name)),
            device: format!("pod{index}"),
            name,
        }
    }
}

fn mount_bpffs(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    mount(Some("bpf"), folder, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cannot mount a bpffs at {}", folder.display()))
}
