//! This node's devices and routes, read from the kernel.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use lb_common::conntrack::HookPoint;
use lb_common::service::SourceClass;
use tokio::runtime::{Builder, Runtime};

use super::programs::{Programs, Unseen};
use crate::agent::status::Status;
use crate::host::devices::{Link, Netlink, NetlinkError, RouteTarget, Selection, classify};
use crate::model::DeviceRole;
use crate::pins::AttachPoint;

/// What `weir explain` needs of the node beside the maps.
pub trait NodeView {
    /// The route to `destination`.
    fn route(&self, destination: IpAddr) -> RouteTarget;
    /// The name of a device.
    fn device(&self, index: u32) -> String;
    /// Why no program sees packets at this side of a device; `None` if one does, or nothing is known.
    fn unseen(&self, device: u32, point: HookPoint) -> Option<Unseen>;
    /// Where a device's packets are seen: on itself, or on its ports.
    fn seen_at(&self, device: u32) -> String;
    /// The cgroup that the programs for socket load balancing are attached to.
    fn control_group(&self) -> ControlGroup;
}

/// The cgroup that the programs for socket load balancing are attached to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ControlGroup {
    /// This one.
    At(PathBuf),
    /// None, though socket load balancing is on.
    Nowhere,
    /// No agent has written its status.
    Unknown,
}

impl ControlGroup {
    fn of(status: Option<&Status>) -> Self {
        match status {
            Some(Status { cgroup: Some(directory), .. }) => Self::At(directory.clone()),
            // Agents before socket load balancing left the field out.
            Some(status) if !status.socket_balancing.is_empty() => Self::Nowhere,
            Some(_) | None => Self::Unknown,
        }
    }
}

/// This node.
pub struct ThisNode {
    runtime: Runtime,
    netlink: Netlink,
    links: Vec<Link>,
    programs: Programs,
    /// The devices that face pods.
    pods: BTreeSet<u32>,
    group: ControlGroup,
    /// The error of the first lookup that failed.
    failure: RefCell<Option<NetlinkError>>,
}

impl ThisNode {
    /// Reads the kernel's devices; their roles are in the agent's `status`, and are guessed without it. Their
    /// programs are in the status or `pinned`.
    ///
    /// # Errors
    ///
    /// The kernel did not respond.
    pub fn ask(status: Option<Status>, pinned: Vec<(u32, AttachPoint)>) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the runtime that reads routes: report this")?;
        let mut netlink = runtime.block_on(async { Netlink::open() })?;
        let links = runtime.block_on(netlink.links())?;
        let group = ControlGroup::of(status.as_ref());
        let programs = Programs::of(links.clone(), status.as_ref(), pinned);
        let pods = match status {
            Some(status) => {
                let pods = status.devices.iter().filter(|device| device.role == "pod");
                pods.map(|device| device.index).collect()
            }
            None => guess_pods(&links),
        };
        Ok(Self { runtime, netlink, links, programs, pods, group, failure: RefCell::default() })
    }

    /// The source class of packets from `sender`, why, and the device that they come in by.
    ///
    /// # Errors
    ///
    /// The kernel did not respond.
    pub fn class_of(&self, sender: IpAddr) -> anyhow::Result<(SourceClass, String, Option<u32>)> {
        Ok(match self.runtime.block_on(self.netlink.route(sender))? {
            RouteTarget::Local => (SourceClass::Host, "an address of this node".into(), None),
            RouteTarget::Device { index, .. } if faces_pod(&self.links, &self.pods, index) => {
                (SourceClass::Pod, format!("behind {}", self.device(index)), Some(index))
            }
            RouteTarget::Device { index, .. } => {
                (SourceClass::Network, format!("routed to {}", self.device(index)), Some(index))
            }
            RouteTarget::Unreachable => (SourceClass::Network, "no route to it".into(), None),
        })
    }

    /// Whether a lookup failed.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn failure(&self) -> Result<(), NetlinkError> {
        self.failure.take().map_or(Ok(()), Err)
    }
}

impl NodeView for ThisNode {
    fn route(&self, destination: IpAddr) -> RouteTarget {
        match self.runtime.block_on(self.netlink.route(destination)) {
            Ok(target) => target,
            Err(error) => {
                self.failure.replace(Some(error));
                RouteTarget::Unreachable
            }
        }
    }

    fn device(&self, index: u32) -> String {
        self.programs.name(index)
    }

    fn unseen(&self, device: u32, point: HookPoint) -> Option<Unseen> {
        self.programs.unseen(device, point)
    }

    fn seen_at(&self, device: u32) -> String {
        self.programs.seen_at(device)
    }

    fn control_group(&self) -> ControlGroup {
        self.group.clone()
    }
}

fn guess_pods(links: &[Link]) -> BTreeSet<u32> {
    let devices = classify(links, &Selection::default()).into_iter();
    let pods = devices.filter(|device| device.role == Some(DeviceRole::Pod));
    pods.map(|device| device.link.index).collect()
}

/// Whether packets to a device come to a pod: it faces one, or it is a bridge with such a port.
fn faces_pod(links: &[Link], pods: &BTreeSet<u32>, device: u32) -> bool {
    let mut ports = links.iter().filter(|link| link.port_of == Some(device));
    pods.contains(&device) || ports.any(|port| pods.contains(&port.index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_of_pods_faces_them_and_hardware_does_not() {
        let port = |index, port_of| Link { index, port_of, ..Link::default() };
        let links = [port(2, None), port(5, None), port(6, Some(5))];
        let pods = BTreeSet::from([6]);
        assert!(faces_pod(&links, &pods, 6) && faces_pod(&links, &pods, 5));
        assert!(!faces_pod(&links, &pods, 2));
    }

    #[test]
    fn the_cgroup_is_read_from_the_agent_s_status() {
        let group = |balancing: &str, cgroup: Option<&str>| {
            let cgroup = cgroup.map(PathBuf::from);
            let socket_balancing = balancing.into();
            ControlGroup::of(Some(&Status { socket_balancing, cgroup, ..Status::default() }))
        };
        assert_eq!(group("host", Some("/group")), ControlGroup::At("/group".into()));
        assert_eq!(group("host", None), ControlGroup::Nowhere);
        assert_eq!(group("", None), ControlGroup::Unknown);
        assert_eq!(ControlGroup::of(None), ControlGroup::Unknown);
    }
}
