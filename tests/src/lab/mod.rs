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
mod shape;
mod topology;
mod xdp_peer;

use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

pub use addresses::Addresses;
pub use cleanup::is_ending;
pub use links::uplink::Uplink;
pub use namespace::Namespace;
pub use path_mtu::NarrowLink;
pub use shape::{Attachment, PodRouting, Shape};
pub use topology::{Lab, Node, Pod};

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
            tunnel: None,
        };
        links::create(&mut lab).context("cannot make a lab of network namespaces")?;
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
}

fn mount_bpffs(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    mount(Some("bpf"), folder, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cannot mount a bpffs at {}", folder.display()))
}
