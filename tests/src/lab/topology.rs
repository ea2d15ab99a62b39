//! A lab's parts: hosts, nodes and pods.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use lb_common::address::Family;

use super::addresses::{self, Addresses};
use super::cleanup;
use super::links::tun::Tunnel;
use super::namespace::Namespace;
use super::shape::Shape;

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
    pub(super) name: cleanup::Name,
    pub(super) xdp_peers: Vec<OwnedFd>,
    pub(super) tunnel: Option<Tunnel>,
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
    pub(super) number: u8,
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

    pub(super) fn new(lab: &cleanup::Name, number: u8, pods_before: u8, pods: u8) -> Self {
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
    pub(super) fn pod(&self, lab: &cleanup::Name, index: u8, number: u8) -> Pod {
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
